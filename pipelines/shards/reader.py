"""Reading clips out of shards by offset, each second of sound and each picture checked against its checksum."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import soundfile
import xxhash

from cocktail.storage import is_remote, join, open_reader, telling
from cocktail.types import UsageError
from pipelines.shards.cache import ShardCache
from pipelines.shards.manifest import Manifest
from pipelines.shards.tars import checksum

FETCHES_AT_ONCE = 8
"""Shards that a process fetches at a time: one stream out of an object store is far from filling a node's network."""


class DamagedMemberError(UsageError):
    """A member of a shard whose bytes are not those that were written."""

    def __init__(self, shard: str, clip_id: str, damage: str) -> None:
        super().__init__(
            f"{shard}: clip {clip_id} is damaged: {damage}. python jobs/verify.py FOLDER names all that is damaged "
            "and says how to mend it"
        )
        self._parts = (shard, clip_id, damage)

    def __reduce__(self) -> tuple[type[DamagedMemberError], tuple[str, str, str]]:
        return type(self), self._parts


@dataclass(frozen=True, kw_only=True)
class ClipSource:
    """Location of the clips of a data set, and their format. Small: travels to any worker."""

    folder: str
    sample_rate_hz: int
    audio_format: str
    shards: Mapping[str, tuple[str, int]]
    """SHA-256 and size of each tar, by its name."""
    cache: ShardCache | None = None
    """Cache of shards in an object store; None reads what is needed from there each time."""

    @classmethod
    def of(cls, manifest: Manifest, cache: ShardCache | None = None) -> ClipSource:
        """The source of a finished data set. A cache is only used for one in an object store."""
        return cls(
            folder=manifest.folder,
            sample_rate_hz=manifest.sample_rate_hz,
            audio_format=manifest.audio_format,
            shards=manifest.shards,
            cache=cache if is_remote(manifest.folder) else None,
        )

    def fetch(self, shards: Sequence[str]) -> list[int]:
        """Have shards in the cache, which there has to be. The bytes of each that was fetched for it."""
        fetched = []
        for shard, (descriptor, hit) in self.open_together(shards).items():
            os.close(descriptor)
            fetched += [] if hit else [self.shards[shard][1]]
        return fetched

    def open_cached(self, shard: str) -> tuple[int, bool]:
        """Descriptor of a shard in the cache, and whether it was there. The caller closes it."""
        assert self.cache is not None
        location = join(self.folder, shard)
        try:
            return self.cache.open(location, *self.shards[shard])
        except FileNotFoundError as error:
            raise UsageError(f"{location} is gone: run the sharding job of {self.folder} again") from error

    def open_together(self, shards: Sequence[str]) -> dict[str, tuple[int, bool]]:
        """Several shards as `open_cached` gives them; those that are not there are fetched some at a time."""
        with ThreadPoolExecutor(max_workers=FETCHES_AT_ONCE) as threads:
            opening = {shard: threads.submit(self.open_cached, shard) for shard in shards}
        failed = [error for future in opening.values() if (error := future.exception()) is not None]
        opened = {shard: future.result() for shard, future in opening.items() if future.exception() is None}
        if failed:
            for descriptor, _ in opened.values():
                os.close(descriptor)
            raise failed[0]
        return opened

    def lacks(self, shards: Sequence[str]) -> bool:
        """Whether there is a cache that lacks some of the shards."""
        cache = self.cache
        return cache is not None and not all(
            cache.has(join(self.folder, shard), self.shards[shard][0]) for shard in shards
        )


Read = TypeVar("Read")
_fetched_anew: set[tuple[str, str]] = set()
"""Cached shards that this process has fetched once more because something in them was damaged: once is enough."""
_anew = threading.Lock()


@dataclass
class ClipReader:
    """Reads clips for a while, as for a batch: each shard is opened once. For one thread; close it after use."""

    source: ClipSource
    bytes_read: int = 0
    bytes_fetched: int = 0
    cache_hits: int = 0
    cache_misses: int = 0
    _descriptors: dict[str, int] = field(default_factory=dict)
    _remote: dict[str, pa.NativeFile] = field(default_factory=dict)
    _reopened: set[str] = field(default_factory=set)
    _scratch: np.ndarray = field(default_factory=lambda: np.empty(0, np.int16))

    def __enter__(self) -> ClipReader:
        return self

    def __exit__(self, *_: object) -> None:
        for descriptor in self._descriptors.values():
            os.close(descriptor)
        for file in self._remote.values():
            file.close()
        self._descriptors, self._remote = {}, {}

    def prepare(self, shards: Sequence[str]) -> None:
        """Open shards that will be read; those that the cache lacks are fetched several at a time."""
        if self.source.lacks(shards):
            for shard, opened in self.source.open_together(shards).items():
                self._keep(shard, *opened)

    def sound(self, clip: Mapping[str, Any], start: int, count: int, checks: Sequence[int]) -> np.ndarray:
        """Samples int16 [count] of a clip from `start` on, good until the next call.

        `clip` has `shard`, `clip_id`, `audio_offset`, `audio_bytes` and `num_samples` of its manifest row, and
        `checks` are the checksums of the seconds that the samples touch: those seconds are read whole and checked.
        Raises DamagedMemberError.
        """
        return self._checked(clip["shard"], lambda: self._sound(clip, start, count, checks))

    def _sound(self, clip: Mapping[str, Any], start: int, count: int, checks: Sequence[int]) -> np.ndarray:
        rate = self.source.sample_rate_hz
        first_second = start // rate
        begin = first_second * rate
        end = min(-(-(start + count) // rate) * rate, clip["num_samples"])
        if self.source.audio_format == "flac":
            data = bytearray(clip["audio_bytes"])
            samples = _decode_flac(data[: self._read(clip["shard"], clip["audio_offset"], data)], begin, end)
        else:
            if len(self._scratch) < end - begin:
                self._scratch = np.empty(end - begin, np.int16)
            samples = self._scratch[: end - begin]
            samples = samples[: self._read(clip["shard"], clip["audio_offset"] + 2 * begin, samples) // 2]
        if len(samples) != end - begin:
            raise self.damaged(clip, "its sound ends early")
        for number, check in enumerate(checks):
            if checksum(samples[number * rate : (number + 1) * rate]) != check:
                raise self.damaged(clip, f"the checksum of second {first_second + number} of its sound differs")
        return samples[start - begin : start - begin + count]

    def file(self, clip: Mapping[str, Any], offset: int, size: int, check: int, name: str) -> bytes:
        """Another member of a clip, called `name` in messages. Raises DamagedMemberError."""
        return self._checked(clip["shard"], lambda: self._file(clip, offset, size, check, name))

    def _file(self, clip: Mapping[str, Any], offset: int, size: int, check: int, name: str) -> bytes:
        data = bytearray(size)
        if self._read(clip["shard"], offset, data) != size or xxhash.xxh3_64_intdigest(data) != check:
            raise self.damaged(clip, f"the checksum of its {name} differs")
        return bytes(data)

    def _checked(self, shard: str, read: Callable[[], Read]) -> Read:
        """Bytes that are read; if they are damaged, and came out of the cache, once more after fetching the shard
        anew."""
        try:
            return read()
        except DamagedMemberError:
            cache, (sha256, _) = self.source.cache, self.source.shards[shard]
            if cache is None or shard in self._reopened:
                raise
            self._reopened.add(shard)
            os.close(self._descriptors.pop(shard))
            with _anew:
                if (cache.folder, sha256) not in _fetched_anew:
                    _fetched_anew.add((cache.folder, sha256))
                    cache.discard(sha256)
            return read()

    def damaged(self, clip: Mapping[str, Any], damage: str) -> DamagedMemberError:
        """The error to raise for damage to a clip."""
        return DamagedMemberError(join(self.source.folder, clip["shard"]), clip["clip_id"], damage)

    def _read(self, shard: str, offset: int, buffer: Any) -> int:
        """Fill a buffer from a shard's offset on; how many bytes there were."""
        if shard not in self._descriptors and shard not in self._remote:
            self._open(shard)
        view = memoryview(buffer).cast("B")
        if shard in self._remote:
            with telling(join(self.source.folder, shard), "read"):
                data = self._remote[shard].read_at(len(view), offset)
            view[: len(data)] = data
            count = len(data)
            self.bytes_fetched += count
        else:
            count = os.preadv(self._descriptors[shard], [view], offset)
        self.bytes_read += count
        return count

    def _open(self, shard: str) -> None:
        location = join(self.source.folder, shard)
        if self.source.cache is not None:
            self._keep(shard, *self.source.open_cached(shard))
            return
        try:
            if is_remote(location):
                self._remote[shard] = open_reader(location)
            else:
                self._descriptors[shard] = os.open(location, os.O_RDONLY)
        except FileNotFoundError as error:
            raise UsageError(f"{location} is gone: run the sharding job of {self.source.folder} again") from error

    def _keep(self, shard: str, descriptor: int, hit: bool) -> None:
        """Keep a shard of the cache open, and count."""
        self._descriptors[shard] = descriptor
        self.cache_hits += hit
        self.cache_misses += not hit
        self.bytes_fetched += 0 if hit else self.source.shards[shard][1]


def _decode_flac(data: bytes | bytearray, begin: int, end: int) -> np.ndarray:
    """Samples begin to end, as far as they can be decoded; fewer, or none, if the file is damaged."""
    try:
        return soundfile.read(io.BytesIO(data), start=begin, stop=end, dtype="int16")[0]
    except soundfile.LibsndfileError:
        return np.empty(0, np.int16)


def read_audio(manifest: Manifest, row: Mapping[str, Any]) -> np.ndarray:
    """All sound of a manifest row, int16 [T]. Raises DamagedMemberError."""
    with ClipReader(ClipSource.of(manifest)) as reader:
        return reader.sound(row, 0, row["num_samples"], row["checks"])


def read_frame(manifest: Manifest, row: Mapping[str, Any], number: int) -> bytes:
    """A picture of a manifest row, as a JPEG file. Raises DamagedMemberError."""
    extent = row["frame_offsets"][number], row["frame_sizes"][number]
    with ClipReader(ClipSource.of(manifest)) as reader:
        return reader.file(row, *extent, row["frame_checks"][number], f"picture {number}")


def read_mask_png(manifest: Manifest, row: Mapping[str, Any]) -> bytes | None:
    """The mask of a manifest row's first picture, as a PNG file; None if it has none. Raises DamagedMemberError."""
    if row["mask_offset"] is None:
        return None
    with ClipReader(ClipSource.of(manifest)) as reader:
        return reader.file(row, row["mask_offset"], row["mask_bytes"], row["mask_check"], "mask")
