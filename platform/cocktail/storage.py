"""Files on local disks and in object stores, under one path syntax.

A location is a local path or a URI that pyarrow knows (`s3://bucket/prefix`, `gs://...`, `file:///...`). An object
store with S3's protocol that is not Amazon's is named by AWS_ENDPOINT_URL; credentials and region come from where
AWS's own tools take them. No reader ever sees part of a file, even if the writer is killed.

Requests that fail for a moment are tried again by the store's own client. What still fails raises StorageError with
the location and what the system said; a file that is not there raises FileNotFoundError.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import re
import shutil
import socket
import tempfile
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.fs

from cocktail.text.redaction import holds_password, redacted_uri
from cocktail.types import UsageError

ATTEMPTS = 6
"""Times that a request to an S3 store is made, with growing pauses: 15 s in all against one that is down."""

_CONNECT_SECONDS = 5.0
_COPY_BYTES = 8 << 20
_TEMPORARY_SUFFIX = ".cocktail-tmp"
_ABANDONED_SECONDS = 24 * 3600.0
"""Time without a write after which a temporary file whose writer is not known to live is taken to have none."""

_SCHEMES = ("s3", "gs", "gcs", "abfs", "abfss", "hdfs", "file", "http", "https")
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
"""Error numbers of places that cannot hold a file."""
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
"""Error numbers of file systems that give a file one name only."""


class StorageError(UsageError):
    """A store did not do what was asked. Later it may: its outage can end without anybody mending anything."""


def is_remote(location: str) -> bool:
    """Whether a location is a URI. Raises UsageError for one without both of its slashes: no local path is meant."""
    if "://" in location:
        return True
    scheme, colon, rest = location.partition(":")
    if colon and scheme.lower() in _SCHEMES:
        raise UsageError(f"{location}: expected {scheme}://{rest.lstrip('/')}")
    return False


def resolve(location: str) -> tuple[pyarrow.fs.FileSystem, str]:
    """The filesystem that holds a location and the path inside it.

    Raises UsageError for a URI of an unknown kind, and for one with a password: locations are recorded with runs.
    """
    if not is_remote(location):
        return pyarrow.fs.LocalFileSystem(), str(Path(location).expanduser().absolute())
    if holds_password(location):
        raise UsageError(
            f"{redacted_uri(location)}: credentials in a location are not taken, as it is recorded with the run. "
            "Set them in the environment (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY for s3://)"
        )
    scheme, _, path = location.partition("://")
    if scheme == "s3":  # not parsed as a URI: names of objects may hold any character
        if "endpoint_override=" in location:
            raise UsageError(f"{location}: options in a URI are not taken. Set AWS_ENDPOINT_URL and AWS_REGION instead")
        path = path.strip("/")
        if not path:
            raise UsageError(f"{location} names no bucket: expected s3://BUCKET/FOLDER")
        return _s3(path.partition("/")[0], _endpoint()), path
    try:
        return pyarrow.fs.FileSystem.from_uri(location)
    except (pa.ArrowInvalid, OSError) as error:
        raise UsageError(
            f"cannot reach {redacted_uri(location)}: {error}. Give a local path, s3://... or gs://..."
        ) from error


def _endpoint() -> str | None:
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"):
        url = os.environ.get(name)
        if url and not re.fullmatch(r"https?://[^/?#\s]+/?", url):
            raise UsageError(
                f"{name} is {redacted_uri(url)}: expected http://HOST:PORT or https://HOST, nothing behind it"
            )
        if url:
            return url
    return None


@functools.cache
def _s3(bucket: str, endpoint: str | None) -> pyarrow.fs.S3FileSystem:
    """One client a bucket and process: it keeps connections, and asking for a bucket's region takes a request."""
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if region is None and endpoint is None:
        try:
            region = pyarrow.fs.resolve_s3_region(bucket)
        except (pa.ArrowInvalid, OSError) as error:
            raise StorageError(f"cannot find bucket {bucket}: {error}. Set AWS_REGION, or AWS_ENDPOINT_URL") from error
    address = urlsplit(endpoint) if endpoint else None
    return pyarrow.fs.S3FileSystem(
        region=region,
        endpoint_override=address.netloc if address else None,
        scheme=address.scheme if address else "https",
        connect_timeout=_CONNECT_SECONDS,
        retry_strategy=pyarrow.fs.AwsStandardS3RetryStrategy(max_attempts=ATTEMPTS),
    )


@contextmanager
def telling(location: str, doing: str) -> Iterator[None]:
    """Turn what a system says of a location into a StorageError; a missing file stays what it is.

    Where there is no room, a UsageError: somebody has to make some.
    """
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise _no_room(location, error) from error
        advice = ". Check the address, credentials and region" if is_remote(location) else ""
        raise StorageError(f"cannot {doing} {redacted_uri(location)}: {error.strerror or error}{advice}") from error


@contextmanager
def _telling_if_full(location: str) -> Iterator[None]:
    """Turn what a system says where a location cannot be written for want of room into a UsageError, nothing else."""
    try:
        yield
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise _no_room(location, error) from error
        raise


def _no_room(location: str, error: OSError) -> UsageError:
    return UsageError(
        f"cannot write {redacted_uri(location)}: {error.strerror or error}. Make room there, or write elsewhere"
    )


def absolute(location: str, option: str) -> str:
    """A location that means the same in every process: URIs stay, local paths are made absolute.

    Raises UsageError, naming the option, for a relative path in a submitted job, whose working directory is a
    temporary copy.
    """
    if is_remote(location):
        return location
    path = Path(location).expanduser()
    if not path.is_absolute() and "working_dir_files" in str(Path.cwd()):
        raise UsageError(f"{option} {location} is relative, but a submitted job runs in a copy: give the whole path")
    return str(path.absolute())


def join(location: str, *names: str) -> str:
    """A location inside another."""
    return "/".join([location.rstrip("/"), *names])


def exists(location: str) -> bool:
    """Whether a file or folder is there."""
    filesystem, path = resolve(location)
    with telling(location, "reach"):
        return filesystem.get_file_info(path).type != pyarrow.fs.FileType.NotFound


def is_folder(location: str) -> bool:
    """Whether a folder is there."""
    filesystem, path = resolve(location)
    with telling(location, "reach"):
        return filesystem.get_file_info(path).type == pyarrow.fs.FileType.Directory


def list_names(location: str) -> list[str]:
    """Sorted names of what lies directly in a folder; an absent folder is empty."""
    filesystem, path = resolve(location)
    selector = pyarrow.fs.FileSelector(path, recursive=False, allow_not_found=True)
    with telling(location, "list"):
        return sorted(info.base_name for info in filesystem.get_file_info(selector))


def open_reader(location: str) -> pa.NativeFile:
    """A file open for reading at any offset (`read_at(size, offset)`), from any thread.

    Raises FileNotFoundError.
    """
    filesystem, path = resolve(location)
    with telling(location, "read"):
        return filesystem.open_input_file(path)


def read_bytes(location: str) -> bytes:
    """A whole file. Raises FileNotFoundError."""
    with telling(location, "read"), open_reader(location) as file:
        return file.readall()


@contextmanager
def local_copy(location: str) -> Iterator[Path]:
    """A file on this machine's disk: itself if it lies there, else a copy that is deleted afterwards.

    Raises FileNotFoundError, for a local path only when the file is opened.
    """
    if not is_remote(location):
        yield Path(location)
        return
    with tempfile.TemporaryDirectory(prefix="cocktail-") as folder:
        path = Path(folder) / location.rsplit("/", 1)[-1]
        with (
            telling(location, "read"),
            _telling_if_full(str(path)),
            open_reader(location) as source,
            path.open("wb") as copy,
        ):
            shutil.copyfileobj(source, copy, _COPY_BYTES)
        yield path


def require_writable(folder: str) -> None:
    """Raise UsageError if no file can be written in a folder, which is made on the way. Leaves no file there."""
    probe = join(folder, f".{socket.gethostname()}.{os.getpid()}.probe")
    write_atomic(probe, b"")
    delete_file(probe)


def create(location: str, data: bytes) -> bool:
    """Write a small file unless it is there already; returns whether it was written.

    On a local disk one of several writers writes, and nobody sees part of it. An object store of pyarrow's knows no
    such condition: there several may write, at the same moment, and the last one stays.
    """
    filesystem, path = resolve(location)
    if not isinstance(filesystem, pyarrow.fs.LocalFileSystem):
        absent = not exists(location)
        if absent:
            write_atomic(location, data)
        return absent
    target = Path(path)
    # A file system without links has it under its own name: others may then see it empty for a moment.
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}.{_this_writer()}{_TEMPORARY_SUFFIX}")
    with telling(location, "write"):
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            _write_synced(temporary, data)
            try:
                target.hardlink_to(temporary)
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                _write_synced(target, data)
        except FileExistsError:
            return False
        finally:
            temporary.unlink(missing_ok=True)
        _sync_folder(target.parent)
    return True


def _write_synced(path: Path, data: bytes) -> None:
    """Raises FileExistsError if it is there."""
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _this_writer() -> str:
    return f"{socket.gethostname()}.{os.getpid()}"


def write_atomic(location: str, data: bytes | memoryview | pa.Buffer) -> None:
    """Write a whole file so that it is there complete or not at all; folders are made on the way."""
    with open_atomic(location) as file:
        file.write(data)


@contextmanager
def open_atomic(location: str) -> Iterator[IO[bytes]]:
    """A new file to write to, which is there, complete, once the block ends without an error; else not at all.

    Locally: a temporary name beside it, synced, then renamed. In an object store: a temporary file on this
    machine's disk, then one upload, which becomes visible when it is complete. Folders are made on the way.
    Raises UsageError, also out of the block, where there is no room for it.
    """
    filesystem, path = resolve(location)
    if not isinstance(filesystem, pyarrow.fs.LocalFileSystem):
        here = f"{tempfile.gettempdir()}, where {location} is kept until it is uploaded"
        with _telling_if_full(here), tempfile.TemporaryFile() as file:
            yield file
            _upload(file, filesystem, path, location)
        return
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{_this_writer()}{_TEMPORARY_SUFFIX}")
    with telling(location, "write"):
        target.parent.mkdir(parents=True, exist_ok=True)
        file = temporary.open("wb")
    try:
        with _telling_if_full(location), file:
            yield file
            with telling(location, "write"):
                file.flush()
                os.fsync(file.fileno())
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    with telling(location, "write"):
        temporary.replace(target)
        _sync_folder(target.parent)


def _upload(file: IO[bytes], filesystem: pyarrow.fs.FileSystem, path: str, location: str) -> None:
    """Copy a local file into an object store, whole or not at all.

    A thread of its own does it: signals raise their exceptions in the main thread only, so none comes between the
    stream's opening and its end. An interrupted caller goes on once the upload has ended.
    """
    file.seek(0)
    with telling(location, "write"), ThreadPoolExecutor(1) as thread:
        thread.submit(_stream, file, filesystem, path).result()


def _stream(file: IO[bytes], filesystem: pyarrow.fs.FileSystem, path: str) -> None:
    stream = filesystem.open_output_stream(path)
    try:
        shutil.copyfileobj(file, stream, _COPY_BYTES)
    except BaseException:
        # Arrow cannot abort: when a stream is closed or freed, be it at the process's end, what has arrived so far
        # becomes the object. So it is never freed. (copy_files, a single call, does not raise if a part fails.)
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(stream))
        raise
    stream.close()


def _sync_folder(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def delete_temporary(location: str) -> None:
    """Remove what killed writers left in a local folder, and nothing that one may still be writing there."""
    filesystem, path = resolve(location)
    if isinstance(filesystem, pyarrow.fs.LocalFileSystem) and Path(path).is_dir():
        with telling(location, "tidy"):
            for left in Path(path).glob(f".*{_TEMPORARY_SUFFIX}"):
                if left.is_dir() and _is_abandoned(left):
                    shutil.rmtree(left, ignore_errors=True)  # another process may be at the same
                elif _is_abandoned(left):
                    left.unlink(missing_ok=True)


@contextmanager
def temporary_folder(beside: str | None = None) -> Iterator[Path]:
    """A new folder in a local one, or in this machine's temporary folder, that is gone afterwards.

    What a killed process leaves of it `delete_temporary` removes.
    """
    if beside is None:
        with tempfile.TemporaryDirectory(prefix="cocktail-") as folder:
            yield Path(folder)
        return
    made = Path(beside) / f".{uuid.uuid4().hex}.{_this_writer()}{_TEMPORARY_SUFFIX}"
    with telling(beside, "write"):
        made.mkdir(parents=True)
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _is_abandoned(temporary: Path) -> bool:
    """Whether the writer of a temporary file is gone, if it was on this host; of another one, only its age tells."""
    ours = re.search(rf"\.{re.escape(socket.gethostname())}\.(\d+){re.escape(_TEMPORARY_SUFFIX)}$", temporary.name)
    try:
        if ours:
            os.kill(int(ours[1]), 0)
        return time.time() - temporary.stat().st_mtime > _ABANDONED_SECONDS
    except (ProcessLookupError, OverflowError):  # there is no such process, or can be none
        return True
    except (PermissionError, FileNotFoundError):  # it is another user's; or the file has just got its name
        return False


def delete_file(location: str) -> None:
    """Remove a file; an absent one is no error."""
    filesystem, path = resolve(location)
    with telling(location, "delete"):
        if filesystem.get_file_info(path).type == pyarrow.fs.FileType.File:
            filesystem.delete_file(path)


def delete_folder(location: str) -> None:
    """Remove a folder and all that is in it; an absent one is no error."""
    filesystem, path = resolve(location)
    with telling(location, "delete"):
        if filesystem.get_file_info(path).type == pyarrow.fs.FileType.Directory:
            filesystem.delete_dir(path)


def list_files(location: str) -> list[str]:
    """Sorted paths, within a folder, of all files in it and below; an absent folder has none."""
    filesystem, path = resolve(location)
    selector = pyarrow.fs.FileSelector(path, recursive=True, allow_not_found=True)
    with telling(location, "list"):
        found = filesystem.get_file_info(selector)
    start = len(path.rstrip("/")) + 1
    return sorted(info.path[start:] for info in found if info.type == pyarrow.fs.FileType.File)
