"""Shards of an object store on a node's own disk: fetched whole and once, shared by the node's processes.

A shard is kept under the SHA-256 that its manifest gives it, so data sets and versions never mix. It appears, by a
rename, when it is complete; a fetch that dies leaves a `.part` behind, which the next fetch removes. Every open file
is read through its descriptor, so one that is deleted to make room stays readable until it is closed.

Nothing is deleted, nor counted, but what has such a name: a folder may hold other files, of whomever.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from cocktail.foreign.bounded import is_sha256
from cocktail.storage import open_reader, telling
from cocktail.types import UsageError

_FETCH_BYTES = 8 << 20
_WAIT_SECONDS = 0.05
_fetched: set[tuple[str, str]] = set()
"""Shards that this process has fetched, to notice a cache that is too small."""
_warned: set[str] = set()


def default_cache_folder() -> str:
    """COCKTAIL_CACHE, or a folder of this user among the node's temporary files."""
    return os.environ.get("COCKTAIL_CACHE") or str(Path(tempfile.gettempdir()) / f"cocktail-cache-{os.getuid()}")


@dataclass(frozen=True, kw_only=True)
class ShardCache:
    """A folder for shards with a limit on its size. Small: travels to any worker, and means each node's own folder."""

    max_bytes: int
    chosen_folder: str | None = None
    """Folder that the user chose; None is `default_cache_folder` of the node."""

    @property
    def folder(self) -> str:
        """Folder in which this node keeps its shards."""
        return self.chosen_folder or default_cache_folder()

    def has(self, location: str, sha256: str) -> bool:
        """Whether a shard is here."""
        return self._path(location, sha256).exists()

    def open(self, location: str, sha256: str, num_bytes: int) -> tuple[int, bool]:
        """Descriptor of a shard open for reading, and whether it came here without this call fetching it.

        The caller closes the descriptor. Whoever asks for a shard that another process or thread is fetching waits
        for it. A shard whose bytes differ from its hash, twice, is kept as it is: each read of a clip is checked, and
        so what is sound in it can be used. Raises UsageError if the shard is larger than the cache, or if the cache
        cannot be written.
        """
        path = self._path(location, sha256)
        try:
            return self._open(location, path, sha256, num_bytes)
        except FileNotFoundError:
            raise  # the shard is gone from its store
        except OSError as error:
            raise UsageError(
                f"cannot keep shards in {self.folder}: {error.strerror}. Choose another --resources.cache-folder, or "
                "lower --resources.cache-gb"
            ) from error

    def _path(self, location: str, sha256: str) -> Path:
        """Where a shard is kept. Raises UsageError for a hash that is none: it would be a path to elsewhere."""
        if not is_sha256(sha256):
            raise UsageError(f"{location} has no SHA-256 of 64 hexadecimal digits, but {sha256[:80]!r}")
        return Path(self.folder) / f"{sha256}.tar"

    def _open(self, location: str, path: Path, sha256: str, num_bytes: int) -> tuple[int, bool]:
        while True:
            try:
                descriptor = os.open(path, os.O_RDONLY)
            except FileNotFoundError:
                fetched = self._fetch(location, path, sha256, num_bytes)
                if fetched is None:  # someone else has, and if it is deleted again already, it is fetched here
                    continue
                return fetched, False
            os.utime(descriptor)  # least recently used goes first
            return descriptor, True

    def discard(self, sha256: str) -> None:
        """Let the next `open` of a shard fetch it anew: what is kept here was found to be damaged."""
        path = self._path("a shard to fetch anew", sha256)
        with locked(Path(self.folder) / "cache.lock"):
            path.unlink(missing_ok=True)

    def _fetch(self, location: str, path: Path, sha256: str, num_bytes: int) -> int | None:
        """Fetch a shard and open it, unless someone else fetches it meanwhile; then None."""
        if num_bytes > self.max_bytes:
            raise UsageError(
                f"{location} has {num_bytes / 1e9:.6f} GB, the cache {self.max_bytes / 1e9:.6f} GB: "
                "raise --resources.cache-gb"
            )
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with locked(path.with_suffix(".lock")):
            if path.exists():
                return None
            part = path.with_suffix(".part")
            # What is said to be huge makes no room that it does not need.
            self._reserve(part, min(num_bytes, _size(location)))
            if _copy(location, part, num_bytes) != sha256 and _copy(location, part, num_bytes) != sha256:
                print(f"{location} is damaged: its SHA-256 is not {sha256}; what is sound in it is used", flush=True)
            self._notice_fetch(path.name, sha256)
            with locked(path.parent / "cache.lock"):
                # Opened before others see it: they may make room at once, and who fetched it would have to again.
                descriptor = os.open(part, os.O_RDONLY)
                try:
                    part.replace(path)
                except OSError:
                    os.close(descriptor)
                    raise
            return descriptor

    def _notice_fetch(self, name: str, sha256: str) -> None:
        """Say once that the cache is too small, if this process has fetched a shard before."""
        if (self.folder, sha256) in _fetched and "small" not in _warned:
            _warned.add("small")
            print(
                f"{name} was fetched again: the cache of {self.max_bytes / 1e9:g} GB is smaller than what is read "
                "from at one time. Raise --resources.cache-gb, or lower --mixing.window-shards",
                flush=True,
            )
        _fetched.add((self.folder, sha256))

    def _reserve(self, part: Path, num_bytes: int) -> None:
        """Create a `.part` of a size, after deleting what was not used for longest until it fits; wait if it can't."""
        while True:
            with locked(part.parent / "cache.lock"):
                part.unlink(missing_ok=True)
                self._delete_abandoned()
                kept = sorted(_own(part.parent, ".tar"), key=lambda path: path.stat().st_mtime)
                total = sum(path.stat().st_size for path in (*kept, *_own(part.parent, ".part")))
                for oldest in kept:
                    if total + num_bytes <= self.max_bytes:
                        break
                    total -= oldest.stat().st_size
                    oldest.unlink()
                if total + num_bytes <= self.max_bytes:
                    with part.open("wb") as file:
                        file.truncate(num_bytes)
                    return
            time.sleep(_WAIT_SECONDS)  # others are fetching as much as fits

    def _delete_abandoned(self) -> None:
        for part in _own(Path(self.folder), ".part"):
            with part.with_suffix(".lock").open("w") as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue  # being fetched
                part.unlink(missing_ok=True)


def _own(folder: Path, suffix: str) -> list[Path]:
    """The files of a folder that a cache wrote there: those named by a SHA-256."""
    return [path for path in folder.glob(f"*{suffix}") if is_sha256(path.stem) and path.is_file()]


def _size(location: str) -> int:
    with telling(location, "read"), open_reader(location) as source:
        return source.size()


def _copy(location: str, part: Path, most_bytes: int) -> str:
    """Copy a shard as far as it may go; the SHA-256 of all that was read of it."""
    digest, left = hashlib.sha256(), most_bytes
    with open_reader(location) as source, part.open("r+b") as file:
        while data := _read(source, location):
            digest.update(data)
            if len(data) > left:
                file.write(data[:left])
                break
            file.write(data)
            left -= len(data)
        file.truncate()
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def _read(source: pa.NativeFile, location: str) -> bytes:
    with telling(location, "read"):
        return source.read(_FETCH_BYTES)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock that ends with this process at the latest."""
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
