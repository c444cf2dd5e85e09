"""Reading what data sets are released as: lists in csv, JSON, folders of files; on disks or in object stores."""

from __future__ import annotations

import bisect
import csv
import io
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from cocktail.foreign.bounded import MAX_JSON_BYTES, UntrustworthyError, parse_json, read_bounded
from cocktail.media.bad_clips import Reason
from cocktail.storage import is_remote, join, list_names
from cocktail.types import UsageError


class Line(NamedTuple):
    """A line of a csv file."""

    where: str
    """File and line, for messages."""
    fields: list[str]
    """Stripped of the white space around them."""


def read_text(location: str, expected: str) -> str:
    """A text file, UTF-8 with or without a byte order mark.

    Raises UsageError, which ends with what was expected, for a file that is not there or cannot be read.
    """
    try:
        return read_bounded(location, MAX_JSON_BYTES).decode("utf-8-sig")
    except FileNotFoundError as error:
        raise UsageError(f"no file {location}. Expected {expected}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {location}: {error}. Expected {expected}") from error


def read_csv(location: str, expected: str, num_columns: int | None = None, delimiter: str = ",") -> Iterator[Line]:
    """The lines of a csv file but the empty ones; quoted fields may hold commas.

    Raises UsageError for a file that cannot be read, and for a line of another number of columns.
    """
    reader = csv.reader(io.StringIO(read_text(location, expected), newline=""), delimiter=delimiter, strict=True)
    try:
        for fields in reader:
            where = f"{location}, line {reader.line_num}"
            if fields and num_columns is not None and len(fields) != num_columns:
                raise UsageError(f"{where}: {len(fields)} columns: {fields}. Expected {num_columns}: {expected}")
            if fields:
                yield Line(where, [field.strip() for field in fields])
    except csv.Error as error:
        raise UsageError(f"{location}, line {reader.line_num}: {error}. Expected {expected}") from error


def read_json(location: str, expected: str) -> Any:
    """A JSON file. Raises UsageError for a file that cannot be read or is not JSON."""
    try:
        return parse_json(read_text(location, expected), is_strict=False)
    except UntrustworthyError as error:
        raise UsageError(f"{location} {error}. Expected {expected}") from error


def ending_of(name: str) -> str:
    """The ending of a file's name, in lower case; none for hidden files, which macOS leaves beside what it copies."""
    return "" if name.startswith(".") else name.rpartition(".")[2].lower()


def files_by_stem(names: Iterable[str], endings: Sequence[str]) -> dict[str, str]:
    """The names of files that end in one of some endings, by what is before the first dot; of several of one, that of
    the ending that is named first."""
    rank = {ending: number for number, ending in enumerate(endings)}
    known = [(rank[name[name.find(".") :]], name) for name in names if name[name.find(".") :] in rank]
    return {name.partition(".")[0]: name for _, name in sorted(known, reverse=True)}


class Folder:
    """The names in a folder, listed once: asking for each file would take minutes on a network disk.

    Raises UsageError for a folder that cannot be listed.
    """

    def __init__(self, location: str, expected: str) -> None:
        self.location = location
        names = _list_remote(location, expected) if is_remote(location) else _list_local(location, expected)
        self.names = sorted(name.decode() for name in names if _is_utf8(name))
        """Names that are text."""
        self._present = set(self.names)
        self._undecodable = sorted(name for name in names if not _is_utf8(name))

    @property
    def num_undecodable(self) -> int:
        """Number of names that are no text."""
        return len(self._undecodable)

    def path(self, name: str) -> str:
        """Location of the file of this name, if it is there."""
        return join(self.location, name)

    def problem(self, name: str) -> Reason | None:
        """Why there is no file of this name; None if there is."""
        if name in self._present:
            return None
        stem = (name.rpartition(".")[0] or name).encode()
        position = bisect.bisect_left(self._undecodable, stem)
        if position < len(self._undecodable) and self._undecodable[position].startswith(stem):
            return "undecodable file name"
        return "missing file"


def _list_local(location: str, expected: str) -> list[bytes]:
    """Names as bytes: one that is no text is listed, too."""
    if not _is_utf8(os.fsencode(location)):
        raise UsageError(f"{os.fsencode(location)!r}: the path is not UTF-8. Move or link the folder to one that is")
    try:
        with os.scandir(os.fsencode(location)) as entries:
            return [entry.name for entry in entries]
    except OSError as error:
        raise UsageError(f"cannot list {location}: {error.strerror}. Expected {expected}") from error


def _list_remote(location: str, expected: str) -> list[bytes]:
    names = list_names(location)
    if not names:
        raise UsageError(f"nothing lies at {location}. Expected {expected}")
    return [name.encode() for name in names]


def _is_utf8(name: bytes) -> bool:
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return True
