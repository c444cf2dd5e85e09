"""Files that lie inside tars, read where they lie: a location names the tar, and where in it the bytes are.

s3://bucket/shards/000.tar!/1536-88244/clip.flac
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cocktail.storage import exists, local_copy, open_reader, telling

_MEMBER = re.compile(r"(?P<tar>.+)!/(?P<offset>\d+)-(?P<size>\d+)/(?P<name>[^/]+)")


def member_location(tar: str, offset: int, size: int, name: str) -> str:
    """The location of a file of so many bytes, from an offset of the tar on; `name` is for people, and its ending."""
    return f"{tar}!/{offset}-{size}/{name.replace('/', '_')}"


@contextmanager
def media_copy(location: str) -> Iterator[Path]:
    """A media file on this machine's disk, as `storage.local_copy`; one inside a tar is copied out of it.

    Raises FileNotFoundError.
    """
    found = _MEMBER.fullmatch(location)
    if found is None:
        with local_copy(location) as path:
            yield path
        return
    with tempfile.TemporaryDirectory(prefix="cocktail-") as folder:
        path = Path(folder) / found["name"]
        path.write_bytes(_bytes_of(found))
        yield path


def read_media(location: str, most_bytes: int) -> bytes | int:
    """A small file's bytes, also of one inside a tar; its size if that is more than `most_bytes`.

    Raises FileNotFoundError.
    """
    found = _MEMBER.fullmatch(location)
    if found is not None:
        size = int(found["size"])
        return size if size > most_bytes else _bytes_of(found)
    with telling(location, "read"), open_reader(location) as file:
        return file.size() if file.size() > most_bytes else file.readall()


def media_exists(location: str) -> bool:
    """Whether a file is there; of one inside a tar, whether the tar is."""
    found = _MEMBER.fullmatch(location)
    return exists(location if found is None else found["tar"])


def _bytes_of(found: re.Match[str]) -> bytes:
    """What there is of a file in a tar: less than its size where the tar is cut off."""
    with telling(found["tar"], "read"), open_reader(found["tar"]) as file:
        return file.read_at(int(found["size"]), int(found["offset"]))
