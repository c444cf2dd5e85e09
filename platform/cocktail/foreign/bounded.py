"""Documents and tables that somebody else wrote: bounded before they are parsed, and refused by one kind of error.

A JSON document may be deep enough to end the interpreter, and a Parquet file of kilobytes may hold gigabytes: runs of
one value take a few bytes however long they are. So sizes are compared with what the file claims first, and what is
not of the form that is expected is refused before a value of it is made.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cocktail.foreign.parquet_footer import Chunk, Footer, FooterError, read_footer
from cocktail.storage import open_reader, telling
from cocktail.types import UsageError

MAX_TEXT_LETTERS = 1000
"""Longest label, name or id. What is longer is no name."""
MAX_JSON_BYTES = 1 << 30
MAX_ROWS_A_BYTE = 8
"""Rows of a Parquet file a byte of it. Rows that differ take some bits each, also where they are compressed best."""
MAX_EXPANSION, LEAST_EXPANDED_BYTES = 40, 256 << 20
"""A table may take so many times its file's size in memory, or so many bytes if that is more."""

_CODECS = ("UNCOMPRESSED", "SNAPPY")
"""What we write with. Snappy gives at most 22 times the bytes; others give a thousand times as many."""
_SNAPPY_EXPANSION = 22
_WIDTHS = {"BOOLEAN": 1, "INT32": 4, "INT64": 8, "FLOAT": 4, "DOUBLE": 8}
_JOINED_BYTES = 32 << 20
"""Pieces of a column are joined into ones of about this size: to look a row up in thousands takes long."""
_LEVEL_BYTES = 8
"""What Arrow keeps at most of a value beside it: its place in lists."""
_SHA256 = re.compile(r"[0-9a-f]{64}")
_PLAIN_NAME = re.compile(r"[^\x00-\x1f\x7f/\\]{1,255}")


class UntrustworthyError(ValueError):
    """A document that is too large, or not of the form that it should have. The message goes behind its name."""


def is_sha256(value: object) -> bool:
    """Whether a value is a SHA-256 as everybody writes it: 64 hexadecimal digits in lower case."""
    return isinstance(value, str) and _SHA256.fullmatch(value) is not None


def is_plain_name(value: object) -> bool:
    """Whether a value is the name of a file and no path: it stays in the folder that it is joined to."""
    return isinstance(value, str) and _PLAIN_NAME.fullmatch(value) is not None and not value.startswith(".")


def is_count(value: object, most: int) -> bool:
    """Whether a value is a whole number from 0 to a largest one."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most


def is_text(value: object, most_letters: int = MAX_TEXT_LETTERS) -> bool:
    """Whether a value is text that can be written down, of bounded length."""
    return isinstance(value, str) and len(value) <= most_letters and not any("\ud800" <= c <= "\udfff" for c in value)


def read_bounded(location: str, most_bytes: int) -> bytes:
    """A whole file. Raises FileNotFoundError, and UsageError for one that is larger than any such file would be."""
    with telling(location, "read"), open_reader(location) as file:
        if file.size() > most_bytes:
            raise UsageError(f"{location} has {file.size() / 1e6:.0f} MB: no such file has over {most_bytes / 1e6:.0f}")
        return file.readall()


def parse_json(text: str | bytes, most_bytes: int = MAX_JSON_BYTES, *, is_strict: bool = True) -> Any:
    """A JSON document. Raises UntrustworthyError for what is none, too large, or nested deeper than any list of ours.

    NaN and Infinity are no JSON either, though Python writes them; lists of others may have them, with `is_strict` off.
    """
    if len(text) > most_bytes:
        raise UntrustworthyError(f"has {len(text) / 1e6:.0f} MB of JSON, more than {most_bytes / 1e6:.0f}")
    try:
        return json.loads(text, parse_constant=_no_number if is_strict else None)
    except RecursionError as error:
        raise UntrustworthyError("is nested too deep") from error
    except ValueError as error:
        raise UntrustworthyError(f"is no JSON: {error}") from error


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no number")


def parse_parquet(data: bytes, columns: pa.Schema | None = None, kept_metadata: bool = True) -> pa.Table:
    """The table in a Parquet file. Raises UntrustworthyError for what is none, has other columns, or expands too far.

    `columns` are names and types that it must have, in their order; None takes any. The file's own word for its rows
    and sizes is compared with its length before any are made.
    """
    try:
        return _parse_parquet(data, columns, kept_metadata)
    except UntrustworthyError:
        raise
    except (FooterError, pa.ArrowException, OSError, ValueError, MemoryError) as error:
        reason = str(error).strip().split("\n")[0]
        raise UntrustworthyError(f"is no Parquet file, or damaged: {reason}") from error


def _parse_parquet(data: bytes, columns: pa.Schema | None, kept_metadata: bool) -> pa.Table:
    most_bytes = max(MAX_EXPANSION * len(data), LEAST_EXPANDED_BYTES)
    footer = read_footer(data)
    _require_bounded(footer, len(data), most_bytes)
    # Not pq.read_table, and one thread: a thread of Arrow that lets go of the bytes after the interpreter has ended
    # aborts the process.
    file = pq.ParquetFile(pa.BufferReader(data))
    if columns is not None and not file.schema_arrow.equals(columns):
        raise UntrustworthyError(f"has other columns: {_difference(file.schema_arrow, columns)}")
    mistrusted = _mistrusted(footer, most_bytes)
    names = file.schema_arrow.names
    if not mistrusted:
        table = file.read(use_threads=False)
    else:
        own = {name: _read_text(data, file, name, chunks, most_bytes) for name, chunks in mistrusted.items()}
        rest = file.read(columns=[name for name in names if name not in own], use_threads=False)
        table = pa.table([own[name] if name in own else rest[name] for name in names], names)
    table.validate(full=True)  # texts may be no UTF-8, and lists may lead anywhere
    return table.replace_schema_metadata(file.schema_arrow.metadata if kept_metadata else None)


def _difference(schema: pa.Schema, columns: pa.Schema) -> str:
    for name in columns.names:
        if name not in schema.names:
            return f"there is no {name}"
        if schema.field(name).type != columns.field(name).type:
            return f"{name} is of type {schema.field(name).type}, not {columns.field(name).type}"
    extra = [name for name in schema.names if name not in columns.names]
    return f"{extra[0][:80]!r} is none" if extra else "their order"


def _require_bounded(footer: Footer, num_bytes: int, most_bytes: int) -> None:
    """Refuse what the footer says to have more rows or values than such a file can hold in earnest."""
    if footer.num_rows > MAX_ROWS_A_BYTE * num_bytes or footer.num_rows != sum(footer.group_rows):
        raise UntrustworthyError(f"claims {footer.num_rows} rows in {num_bytes} bytes")
    if codecs := sorted({chunk.codec for chunk in footer.chunks} - set(_CODECS)):
        raise UntrustworthyError(f"is compressed by {codecs[0]}, which we do not write: expected SNAPPY")
    expanded = sum(
        max(chunk.num_values * (_LEVEL_BYTES + _WIDTHS.get(chunk.physical_type, 0)), chunk.uncompressed_bytes)
        for chunk in footer.chunks
    )
    if expanded > most_bytes:
        raise UntrustworthyError(f"has {num_bytes} bytes and would take {expanded / 1e9:.1f} GB of memory")


def _mistrusted(footer: Footer, most_bytes: int) -> dict[str, list[Chunk]]:
    """Chunks of the columns of text that may expand beyond a limit, as each of their values may be the longest of a
    dictionary's; by column. Nothing but the values themselves tells whether they do."""
    mistrusted: dict[str, list[Chunk]] = {}
    for chunk in footer.chunks:
        if chunk.physical_type == "BYTE_ARRAY" and chunk.num_values * _longest_value(chunk) > most_bytes:
            mistrusted.setdefault(chunk.path.split(".")[0], []).append(chunk)
    return mistrusted


def _longest_value(chunk: Chunk) -> int:
    """No value of a dictionary is longer than all of it."""
    return _SNAPPY_EXPANSION * min(chunk.dictionary_bytes, chunk.compressed_bytes)


def _read_text(
    data: bytes, file: pq.ParquetFile, name: str, chunks: Sequence[Chunk], most_bytes: int
) -> pa.ChunkedArray:
    """A column of text, or of lists of text, value by value no larger than a limit in all."""
    kind = file.schema_arrow.field(name).type
    joined, parts, used, waiting = [], [], 0, 0
    for part in _text_parts(data, file, name, chunks, most_bytes):
        size = _text_bytes(part)
        used, waiting = used + size, waiting + size
        if used > most_bytes:
            raise UntrustworthyError(f"has {len(data)} bytes and would take {used / 1e9:.1f} GB for {name} alone")
        parts.append(part.cast(kind))
        if waiting > _JOINED_BYTES:
            joined.append(pa.concat_arrays(parts))
            parts, waiting = [], 0
    return pa.chunked_array([*joined, *([pa.concat_arrays(parts)] if parts else [])], kind)


def _text_parts(
    data: bytes, file: pq.ParquetFile, name: str, chunks: Sequence[Chunk], most_bytes: int
) -> Iterator[pa.Array]:
    """Pieces of a column, none of which takes more than a limit: so many rows at a time, or with its dictionary."""
    if chunks[0].path == name:
        rows = max(most_bytes // max(map(_longest_value, chunks)), 1)
        for batch in file.iter_batches(rows, columns=[name], use_threads=False):
            yield batch.column(0)
        return
    encoded = pq.ParquetFile(pa.BufferReader(data), read_dictionary=[chunks[0].path])
    for number in range(encoded.num_row_groups):
        yield from encoded.read_row_group(number, columns=[name], use_threads=False).column(0).chunks


def _text_bytes(array: pa.Array) -> int:
    """Bytes of the texts in an array of texts, or of lists of them, once each is written out."""
    values = array.flatten() if pa.types.is_list(array.type) else array
    if pa.types.is_dictionary(values.type):
        lengths = pc.binary_length(values.dictionary.cast(pa.binary()))  # pyright: ignore[reportAttributeAccessIssue]
        return pc.sum(lengths.take(values.indices).cast(pa.int64())).as_py() or 0  # pyright: ignore[reportAttributeAccessIssue]
    return values.nbytes
