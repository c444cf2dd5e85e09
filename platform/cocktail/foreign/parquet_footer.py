"""What a Parquet file's footer says of its size, read without building anything.

Apache Parquet's file metadata in Thrift's compact protocol. Arrow's own view of a footer aborts the process where a
flipped bit makes a column seem encrypted (pyarrow 25, `RowGroupMetaData.column`), so it is not asked.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_MAGIC = b"PAR1"
_DEEPEST = 32
_TYPES = ("BOOLEAN", "INT32", "INT64", "INT96", "FLOAT", "DOUBLE", "BYTE_ARRAY", "FIXED_LEN_BYTE_ARRAY")
_CODECS = ("UNCOMPRESSED", "SNAPPY", "GZIP", "LZO", "BROTLI", "LZ4", "ZSTD", "LZ4_RAW")


class FooterError(ValueError):
    """A footer that is none."""


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """The values of a column in a group of rows."""

    path: str
    """Names from the column to its values, with dots between."""
    physical_type: str
    codec: str
    num_values: int
    uncompressed_bytes: int
    compressed_bytes: int
    dictionary_bytes: int
    """Compressed size of its dictionary; 0 without one."""


@dataclass(frozen=True, kw_only=True)
class Footer:
    """Rows of a file, and its chunks, group by group."""

    num_rows: int
    group_rows: tuple[int, ...]
    chunks: tuple[Chunk, ...]


def read_footer(data: bytes) -> Footer:
    """The footer of a whole file. Raises FooterError."""
    if len(data) < 12 or data[-4:] != _MAGIC or data[:4] != _MAGIC:
        raise FooterError("it does not begin and end as one")
    size = int.from_bytes(data[-8:-4], "little")
    if not 0 < size <= len(data) - 12:
        raise FooterError("its footer is longer than it is")
    document = _Compact(data[-8 - size : -8]).struct()
    try:
        groups = document[4]
        chunks = tuple(_chunk(column) for group in groups for column in group[1])
        return Footer(
            num_rows=_count(document[3]), group_rows=tuple(_count(group[3]) for group in groups), chunks=chunks
        )
    except (KeyError, IndexError, TypeError, AttributeError, UnicodeDecodeError) as error:
        raise FooterError("its footer lacks what every footer has") from error


def _chunk(column: dict[int, Any]) -> Chunk:
    if 8 in column or 9 in column:
        raise FooterError("a column is encrypted")
    if 1 in column:
        raise FooterError("a column lies in another file")
    said = column[3]
    dictionary = said.get(11)
    return Chunk(
        path=".".join(name.decode() for name in said[3]),
        physical_type=_TYPES[_count(said[1])],
        codec=_CODECS[_count(said[4])],
        num_values=_count(said[5]),
        uncompressed_bytes=_count(said[6]),
        compressed_bytes=_count(said[7]),
        dictionary_bytes=0 if dictionary is None else max(_count(said[9]) - _count(dictionary), 0),
    )


def _count(value: object) -> int:
    if not isinstance(value, int) or value < 0:
        raise FooterError("a count or a size is less than nothing")
    return value


class _Compact:
    """Values of Thrift's compact protocol out of bytes: structs are dicts by the numbers of their fields."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def struct(self, depth: int = 0) -> dict[int, Any]:
        if depth > _DEEPEST:
            raise FooterError("its footer is nested too deep")
        fields: dict[int, Any] = {}
        number = 0
        while head := self._byte():
            step, kind = head >> 4, head & 15
            number = number + step if step else self._integer()
            fields[number] = kind == 1 if kind in (1, 2) else self._value(kind, depth)
        return fields

    def _value(self, kind: int, depth: int) -> Any:
        if kind in (1, 2):
            return self._byte() == 1
        if kind == 3:
            return self._byte()
        if kind in (4, 5, 6):
            return self._integer()
        if kind == 7:
            return struct.unpack("<d", self._bytes(8))[0]
        if kind == 8:
            return self._bytes(self._number())
        if kind in (9, 10):
            return list(self._items(depth))
        if kind == 12:
            return self.struct(depth + 1)
        raise FooterError("a value of its footer is of no kind that footers have")

    def _items(self, depth: int) -> Iterator[Any]:
        if depth > _DEEPEST:
            raise FooterError("its footer is nested too deep")
        head = self._byte()
        count = head >> 4 if head >> 4 < 15 else self._number()
        if count > len(self._data) - self._at:  # each takes a byte or more
            raise FooterError("a list of its footer is longer than it is")
        for _ in range(count):
            yield self._value(head & 15, depth + 1)

    def _byte(self) -> int:
        return self._bytes(1)[0]

    def _bytes(self, count: int) -> bytes:
        if count > len(self._data) - self._at:
            raise FooterError("its footer ends early")
        self._at += count
        return self._data[self._at - count : self._at]

    def _number(self) -> int:
        """An unsigned number, seven bits a byte, the lowest first."""
        value = 0
        for shift in range(0, 70, 7):
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
        raise FooterError("a number of its footer has no end")

    def _integer(self) -> int:
        value = self._number()
        return (value >> 1) ^ -(value & 1)
