"""The index of a data set: one row a clip. A data set's own file makes it, and only that file knows the layout.

A clip is one sound with one rate and, in audio-visual sets, its pictures. What sounds together as released, the
stems of a song or the sources of a FUSS mixture, are clips of one `group`. What was cut out of one video, song or
field recording are clips of one `recording`: parts of splits (`cocktail.config.splits`) hold out whole ones.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import pyarrow as pa

from cocktail.foreign.bounded import MAX_TEXT_LETTERS, is_text
from cocktail.media.bad_clips import Reason
from cocktail.types import UsageError

BOX = pa.struct(
    [
        ("picture", pa.int32()),
        ("class_id", pa.int32()),
        *((corner, pa.float64()) for corner in ("x0", "y0", "x1", "y1")),
    ]
)
INDEX_SCHEMA = pa.schema(
    [
        pa.field("clip_id", pa.string(), nullable=False),
        pa.field("recording", pa.string(), nullable=False),
        pa.field("media_path", pa.string(), nullable=False),
        pa.field("audio_track", pa.int32(), nullable=False),
        pa.field("pictures", pa.list_(pa.struct([("path", pa.string()), ("seconds", pa.float64())]))),
        pa.field("labels", pa.list_(pa.string()), nullable=False),
        pa.field("class_ids", pa.list_(pa.int32()), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("group", pa.string()),
        pa.field("role", pa.string()),
        pa.field("partner", pa.string()),
        pa.field("boxes", pa.list_(BOX)),
        pa.field("mask_path", pa.string()),
        pa.field("nominal_seconds", pa.float64(), nullable=False),
        pa.field("nominal_pictures", pa.int32()),
        pa.field("problem", pa.string()),
    ]
)


FARTHEST_SHARE = 2.0
"""A corner further from the picture's upper left, as a share of its side, is no share."""
FARTHEST_PIXEL = 1e5
"""A number that is further is no pixel either."""


class PictureFile(NamedTuple):
    """A picture that lies beside the sound as a file of its own."""

    path: str
    seconds: float
    """Time at which the picture is shown, counted from the first sample of the sound."""


class Box(NamedTuple):
    """A rectangle around an object: corners as shares of the picture's width and height, x1 > x0, y1 > y0."""

    picture: int
    """Number of the picture among the clip's, in time order."""
    label: str | None
    x0: float
    y0: float
    x1: float
    y1: float


@dataclass(frozen=True, kw_only=True)
class IndexRow:
    """One clip."""

    clip_id: str
    recording: str
    """Name of what the clip was cut out of: clips with the same one are never on both sides of a part of a split."""
    media_path: str
    """File that holds the sound, and the moving picture unless `pictures` are given. A local path or a URI."""
    labels: tuple[str, ...]
    """Names of what sounds. Empty if unknown; several if they sound together (a duet)."""
    split: str
    nominal_seconds: float
    """Length as far as the layout tells it. Sizes shards, no more."""
    nominal_pictures: int | None = None
    """Expected number of `pictures`, where their number is known from the files alone. None: as many as there are."""
    audio_track: int = 0
    """Number of the sound track among the file's."""
    pictures: tuple[PictureFile, ...] | None = None
    """Files to store, in time order. None: frames of the media file, chosen by the shard settings."""
    group: str | None = None
    """Clips with the same one sound together as released; they share a shard, and are good or bad together."""
    role: str | None = None
    """Part that the clip has in its group: a stem's name, background or foreground."""
    partner: str | None = None
    """Clip id that an official test list mixes it with."""
    boxes: tuple[Box, ...] | None = None
    """Places of the sounding objects in the pictures; None if nobody said."""
    mask_path: str | None = None
    """Mask of the sounding objects in the first picture, as a file: .png, .jpg, .npy or a pickled array; what is not
    0, or of a .jpg nearer to white, sounds."""
    problem: Reason | None = None
    """Defect that is known before the clip is read."""


def make_index(rows: Iterable[IndexRow], classes: Sequence[str], notes: Sequence[str] = ()) -> pa.Table:
    """The rows as a table with INDEX_SCHEMA, in their order.

    A class id is a label's place in `classes`; labels outside it have none. Of rows with the same clip id the
    first is good, the others are problems. `classes` and `notes` (what else the index has to tell, a line each)
    become the schema's metadata `cocktail.classes` and `cocktail.notes`, as JSON; recordings in more than one split
    are noted, too. Raises UsageError if there is no row, if every one has a problem, and for a name that is none.
    """
    rows = list(rows)
    _require_names(rows, classes)
    notes = [*notes, *_notes_on_splits(rows)]
    class_ids = {label: class_id for class_id, label in enumerate(classes)}
    names = [field.name for field in fields(IndexRow)]
    columns: dict[str, list] = {name: [getattr(row, name) for row in rows] for name in names}
    columns["pictures"] = [
        None if row.pictures is None else [picture._asdict() for picture in row.pictures] for row in rows
    ]
    columns["boxes"] = [
        None if row.boxes is None else [box_values(box, class_ids) for box in row.boxes] for row in rows
    ]
    columns["class_ids"] = [[class_ids[label] for label in row.labels if label in class_ids] for row in rows]
    seen: set[str] = set()
    for number, row in enumerate(rows):
        if row.clip_id in seen:
            columns["problem"][number] = "duplicate row"
        seen.add(row.clip_id)
    if None not in columns["problem"]:
        example = f": {rows[0].problem}, {rows[0].media_path}" if rows else ""
        raise UsageError(f"none of the {len(rows)} clips can be used{example}")
    metadata = {"cocktail.classes": _json(list(classes)), "cocktail.notes": _json(list(notes))}
    arrays = [pa.array(columns[field.name], field.type) for field in INDEX_SCHEMA]
    return pa.Table.from_arrays(arrays, schema=INDEX_SCHEMA.with_metadata(metadata))


def _require_names(rows: Sequence[IndexRow], classes: Sequence[str]) -> None:
    """Raise UsageError for what no manifest may hold: a name of a page's length, or one that cannot be written."""
    names = itertools.chain(
        classes, (name for row in rows for name in (row.clip_id, row.recording, row.split, *row.labels))
    )
    for name in dict.fromkeys(names):
        if not is_text(name):
            raise UsageError(f"{name[:80]!r} is no name: expected text of up to {MAX_TEXT_LETTERS} letters")


def _notes_on_splits(rows: Sequence[IndexRow]) -> Iterator[str]:
    """Recordings with clips in several splits: what a model is tested on, it may have heard."""
    splits: dict[str, set[str]] = {}
    for row in rows:
        splits.setdefault(row.recording, set()).add(row.split)
    shared = sorted(recording for recording, of in splits.items() if len(of) > 1)
    if shared:
        of = ", ".join(sorted(set().union(*(splits[recording] for recording in shared))))
        yield (
            f"{len(shared)} recordings have clips in more than one split ({of}), as {shared[0]!r}: what is tested "
            "may have been trained on"
        )


def require_shares(boxes: Iterable[Sequence[float]], where: str) -> None:
    """Raise UsageError, which says where, for boxes in pixels: corners are shares of a picture's width and height.

    A few boxes that reach far out are mistakes of a list, as VGG-SS's own has some; most are another unit.
    """
    boxes = list(boxes)
    in_pixels = [box for box in boxes if FARTHEST_SHARE < max(map(abs, box), default=0.0) < FARTHEST_PIXEL]
    if 2 * len(in_pixels) > len(boxes):
        raise UsageError(
            f"{where}: {len(in_pixels)} of {len(boxes)} boxes are in pixels, as {list(in_pixels[0])}. Expected shares "
            "of the picture's width and height, from 0 to 1: divide by them"
        )


def box_values(box: Box, class_ids: Mapping[str, int]) -> dict[str, int | float | None]:
    """A box as a value of type BOX; one of a label that is no class is of no class."""
    class_id = None if box.label is None else class_ids.get(box.label)
    return {"picture": box.picture, "class_id": class_id, "x0": box.x0, "y0": box.y0, "x1": box.x1, "y1": box.y1}


def _json(value: list[str]) -> str:
    return json.dumps(value, ensure_ascii=False)
