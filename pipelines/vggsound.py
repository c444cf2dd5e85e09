"""VGG-Sound as released: an index of its clips.

Chen et al., "VGGSound: A Large-scale Audio-Visual Dataset". The csv has no header and four columns: YouTube
id, start second, label, split; labels contain commas. The clips lie in one folder as `<id>_<start>.mp4`, the
start in six digits. Media is only listed here, not opened.
"""

from __future__ import annotations

import bisect
import csv
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from cocktail.types import UsageError
from pipelines.media import Reason

SPLITS = ("train", "test")

SCHEMA = pa.schema(
    [
        pa.field("clip_id", pa.string(), nullable=False),
        pa.field("media_path", pa.string(), nullable=False),
        pa.field("start_seconds", pa.int32(), nullable=False),
        pa.field("label", pa.string(), nullable=False),
        pa.field("class_id", pa.int32(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("problem", pa.string()),
    ]
)

_EXPECTED = 'id, start second, label, split, as in: ---g-f_I2yQ,1,"people marching",test'


class _Row(NamedTuple):
    clip_id: str
    start_seconds: int
    label: str
    split: str


def index_vggsound(csv: str | Path, videos: str | Path) -> pa.Table:
    """One row a line of the csv, in its order; `problem` says what is already known to be wrong with it.

    A class id is the row in the sorted list of all labels, which is the schema's `cocktail.classes`, as JSON.
    Of rows that name the same clip the first is good. Raises UsageError for a csv or a folder that cannot
    be what it should be.
    """
    rows = list(_read_rows(Path(csv).expanduser()))
    if not rows:
        raise UsageError(f"{csv} is empty. Expected lines of {_EXPECTED}")
    folder = Path(videos).expanduser().absolute()
    problems = _find_problems(rows, _list_folder(folder))
    if None not in problems:
        example = f"{rows[0].clip_id}.mp4"
        raise UsageError(
            f"{folder} holds none of the {len(rows)} clips of {csv}. "
            f"Expected files named <id>_<start, six digits>.mp4, the first one {example}"
        )
    classes = sorted({row.label for row in rows})
    class_ids = {label: class_id for class_id, label in enumerate(classes)}
    columns = [
        [row.clip_id for row in rows],
        [str(folder / f"{row.clip_id}.mp4") for row in rows],
        [row.start_seconds for row in rows],
        [row.label for row in rows],
        [class_ids[row.label] for row in rows],
        [row.split for row in rows],
        problems,
    ]
    metadata = {"cocktail.classes": json.dumps(classes, ensure_ascii=False)}
    return pa.table(columns, schema=SCHEMA.with_metadata(metadata))


def _read_rows(path: Path) -> Iterator[_Row]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            for fields in reader:
                if fields:
                    yield _parse(fields, f"{path}, line {reader.line_num}")
    except FileNotFoundError as error:
        raise UsageError(f"no csv at {path}. Expected the released vggsound.csv") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"cannot read {path} as csv: {error}. Expected lines of {_EXPECTED}") from error


def _parse(fields: list[str], where: str) -> _Row:
    if len(fields) != 4:
        raise UsageError(f"{where}: {len(fields)} columns: {fields}. Expected four: {_EXPECTED}")
    youtube_id, start, label, split = (field.strip() for field in fields)
    if not (start.isascii() and start.isdigit() and len(start) <= 6):
        raise UsageError(f"{where}: start second {start!r}. Expected a whole number of at most six digits")
    if split not in SPLITS:
        raise UsageError(f"{where}: split {split!r}. Expected one of {', '.join(SPLITS)}")
    if not youtube_id or not label:
        raise UsageError(f"{where}: no {'label' if youtube_id else 'id'}: {fields}. Expected {_EXPECTED}")
    return _Row(f"{youtube_id}_{int(start):06d}", int(start), label, split)


def _list_folder(folder: Path) -> list[bytes]:
    """Names in a folder, read once and as bytes: a stat a clip would take minutes on a network disk."""
    if not _is_utf8(os.fsencode(folder)):
        raise UsageError(f"{os.fsencode(folder)!r}: the path is not UTF-8. Move or link the folder to one that is")
    try:
        with os.scandir(os.fsencode(folder)) as entries:
            return sorted(entry.name for entry in entries)
    except OSError as error:
        raise UsageError(f"cannot list {folder}: {error.strerror}. Expected the folder of clips") from error


def _find_problems(rows: list[_Row], names: list[bytes]) -> list[Reason | None]:
    present = set(names)
    undecodable = [name for name in names if not _is_utf8(name)]
    seen: set[str] = set()
    problems: list[Reason | None] = []
    for row in rows:
        if row.clip_id in seen:
            problems.append("duplicate row")
        elif f"{row.clip_id}.mp4".encode() in present:
            problems.append(None)
        elif _starts_any(undecodable, row.clip_id.encode()):
            problems.append("undecodable file name")
        else:
            problems.append("missing file")
        seen.add(row.clip_id)
    return problems


def _is_utf8(name: bytes) -> bool:
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return True


def _starts_any(ordered: list[bytes], prefix: bytes) -> bool:
    position = bisect.bisect_left(ordered, prefix)
    return position < len(ordered) and ordered[position].startswith(prefix)
