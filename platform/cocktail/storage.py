"""Files on local disks and in object stores, under one path syntax.

A location is a local path or a URI that pyarrow knows (`s3://bucket/prefix`, `gs://...`, `file:///...`).
No reader ever sees part of a file, even if the writer is killed.
"""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.fs

from cocktail.types import UsageError


def resolve(location: str) -> tuple[pyarrow.fs.FileSystem, str]:
    """The filesystem that holds a location and the path inside it.

    Raises UsageError for a URI of an unknown kind, or a bucket that cannot be reached.
    """
    if "://" not in location:
        return pyarrow.fs.LocalFileSystem(), str(Path(location).expanduser().absolute())
    try:
        return pyarrow.fs.FileSystem.from_uri(location)
    except (pa.ArrowInvalid, OSError) as error:
        raise UsageError(f"cannot reach {location}: {error}. Give a local path, s3://... or gs://...") from error


def absolute(location: str, option: str) -> str:
    """A location that means the same in every process: URIs stay, local paths are made absolute.

    Raises UsageError, naming the option, for a relative path in a submitted job, whose working directory is a
    temporary copy.
    """
    if "://" in location:
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
    return filesystem.get_file_info(path).type != pyarrow.fs.FileType.NotFound


def list_names(location: str) -> list[str]:
    """Sorted names of what lies directly in a folder; an absent folder is empty."""
    filesystem, path = resolve(location)
    selector = pyarrow.fs.FileSelector(path, recursive=False, allow_not_found=True)
    return sorted(info.base_name for info in filesystem.get_file_info(selector))


def open_reader(location: str) -> pa.NativeFile:
    """A file open for reading at any offset (`read_at(size, offset)`), from any thread.

    Raises FileNotFoundError.
    """
    filesystem, path = resolve(location)
    return filesystem.open_input_file(path)


def read_bytes(location: str) -> bytes:
    """A whole file. Raises FileNotFoundError."""
    with open_reader(location) as file:
        return file.readall()


def write_atomic(location: str, data: bytes | memoryview | pa.Buffer) -> None:
    """Write a whole file so that it is there complete or not at all; folders are made on the way.

    Locally: a temporary name beside it, synced, then renamed. In an object store: one upload, which
    becomes visible when it is complete.
    """
    filesystem, path = resolve(location)
    if not isinstance(filesystem, pyarrow.fs.LocalFileSystem):
        with filesystem.open_output_stream(path) as stream:
            stream.write(data)
        return
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(target)
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def delete_file(location: str) -> None:
    """Remove a file; an absent one is no error."""
    filesystem, path = resolve(location)
    if filesystem.get_file_info(path).type == pyarrow.fs.FileType.File:
        filesystem.delete_file(path)


def delete_folder(location: str) -> None:
    """Remove a folder and all that is in it; an absent one is no error."""
    filesystem, path = resolve(location)
    if filesystem.get_file_info(path).type == pyarrow.fs.FileType.Directory:
        filesystem.delete_dir(path)
