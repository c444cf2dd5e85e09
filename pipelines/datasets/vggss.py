"""VGG-SS as released: an index of the clips of VGG-Sound's test split whose sounding objects were marked.

Chen et al., "Localizing Visual Sounds the Hard Way". `vggss.json` is a list of {file, class, bbox}: a clip of
VGG-Sound, its class, boxes on its middle frame as corners in shares of the picture. Some corners lie outside the
picture, by little or by far, and some boxes have no area. The clips lie in one folder, as VGG-Sound's do.

AVGN's lists choose the clips of VGGSound-Single and pair those of VGGSound-Duet. Exact masks of the pixels are
not part of the release; a folder of them may be given, as pictures or arrays.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import pyarrow as pa

from cocktail.types import UsageError
from pipelines.datasets.avgn_lists import (
    base_name,
    check_pairs,
    check_singles,
    count,
    listed_name,
    read_pairs,
    read_singles,
)
from pipelines.datasets.index import Box, IndexRow, box_values, make_index, require_shares
from pipelines.datasets.layouts import Folder, files_by_stem, read_json
from pipelines.datasets.vggsound import ListedClip, clip_row, index_vggsound, read_clips

SPLIT = "test"
MASKS = (".png", ".npy", ".pkl", ".pickle")

EXPECTED = 'the released vggss.json: a list of {"file": "<id>_<start>", "class": ..., "bbox": [[x0, y0, x1, y1], ...]}'


class Item(NamedTuple):
    """A marked clip."""

    clip_id: str
    label: str
    boxes: tuple[Box, ...]
    """Inside the picture, with an area."""
    num_left_out: int
    """Boxes that have no area inside the picture."""
    num_cut: int
    """Boxes that reach over its edge, and have an area inside."""


def index_vggss(
    vggss: str,
    videos: str,
    csv: str | None = None,
    masks: str | None = None,
    single: str | None = None,
    duet: str | None = None,
) -> pa.Table:
    """One row an item, in the order of the file; its boxes are those of its one picture, the middle frame.

    A class id is the place in the sorted classes of the whole file. Items without a box are problems. With the `csv`
    of VGG-Sound, items that are not in its test split with the same class are noted. `masks` is a folder of
    <file>.png, or of arrays; items without one are noted. `single` and `duet` are AVGN's lists: only the items of the
    first are taken, the second gives partners.

    Raises UsageError for files and folders that cannot be what they should be, and for boxes of anything but four
    finite numbers.
    """
    items = list(read_items(vggss))
    if not items:
        raise UsageError(f"{vggss} is empty. Expected {EXPECTED}")
    classes = sorted({item.label for item in items})
    notes: list[str] = []
    if single is not None:
        listed = read_singles(single)
        notes += check_singles(listed, _names(items), single)
        unlisted = [item.clip_id for item in items if item.clip_id not in listed]
        notes += count(unlisted, f"items are not on {base_name(single)} and left out")
        items = [item for item in items if item.clip_id in listed]
    notes += _box_notes(items)
    if csv is not None:
        notes += _split_notes(items, csv)
    pairs = {} if duet is None else read_pairs(duet)
    if duet is not None:
        notes += check_pairs(pairs, _names(items), duet)
    folder = Folder(videos, "the folder of clips, named <id>_<start, six digits>.mp4")
    rows = [item_row(item, folder) for item in items]
    rows = [replace(row, partner=pairs[row.clip_id].partner) if row.clip_id in pairs else row for row in rows]
    if masks is not None:
        rows = list(_with_masks(rows, Folder(masks, "the folder of masks, named <id>_<start, six digits>.png or .pkl")))
        unmasked = [row.clip_id for row in rows if row.mask_path is None]
        notes += count(unmasked, f"items have no mask in {base_name(masks)}")
    return make_index(rows, classes, notes)


def index_with_boxes(csv: str, videos: str, vggss: str | None = None, boxes: str | None = None) -> pa.Table:
    """The index of VGG-Sound (`index_vggsound`), with the boxes of a file where one is given (`with_boxes`)."""
    index = index_vggsound(csv, videos, vggss)
    return index if boxes is None else with_boxes(index, boxes)


def with_boxes(index: pa.Table, vggss: str) -> pa.Table:
    """An index of VGG-Sound with the boxes of vggss.json, or of a file like it, on the clips that are items of it.

    So one data set is trained on and tested for where its sounds come from. Other clips have no boxes, as before, and
    an item whose boxes all lie outside the picture has an empty list. Raises UsageError for a file that is not what it
    should be, or that has no item in the index.
    """
    items = {item.clip_id: item for item in read_items(vggss)}
    names = index["clip_id"].to_pylist()
    own = [items[name] for name in names if name in items]
    if not own:
        raise UsageError(f"{vggss} has no item that is among the {len(names)} clips of the csv")
    metadata = dict(index.schema.metadata)
    places = {label: place for place, label in enumerate(json.loads(metadata[b"cocktail.classes"]))}
    boxes = [[box_values(box, places) for box in items[name].boxes] if name in items else None for name in names]
    notes = json.loads(metadata[b"cocktail.notes"]) + _box_notes(own, "have an empty list")
    place = index.schema.get_field_index("boxes")
    marked = index.set_column(place, index.schema.field(place), pa.array(boxes, index.schema.field(place).type))
    return marked.replace_schema_metadata({**metadata, b"cocktail.notes": json.dumps(notes, ensure_ascii=False)})


def item_row(item: Item, folder: Folder) -> IndexRow:
    """The index row of an item whose clip lies in a folder."""
    row = clip_row(ListedClip(item.clip_id, item.label, SPLIT), folder)
    return replace(row, boxes=item.boxes, problem=row.problem if item.boxes else "empty truth")


def _with_masks(rows: Iterable[IndexRow], folder: Folder) -> Iterable[IndexRow]:
    names = files_by_stem(folder.names, MASKS)
    for row in rows:
        yield replace(row, mask_path=folder.path(names[row.clip_id])) if row.clip_id in names else row


def _names(items: Iterable[Item]) -> dict[str, str]:
    return {item.clip_id: listed_name(item.label) for item in items}


def _box_notes(items: list[Item], without: str = "are set aside") -> list[str]:
    """Notes on boxes; `without` says what becomes of items without one."""
    cut = [item.clip_id for item in items for _ in range(item.num_cut)]
    flat = [item.clip_id for item in items for _ in range(item.num_left_out)]
    empty = [item.clip_id for item in items if not item.boxes]
    return [
        *count(cut, "boxes reach over the edge of the picture and are cut there"),
        *count(flat, "boxes have no area inside the picture and are left out"),
        *count(empty, f"items have no box and {without}"),
    ]


def _split_notes(items: list[Item], csv: str) -> list[str]:
    clips = {clip.clip_id: clip for clip in read_clips(csv)}
    absent = [item.clip_id for item in items if item.clip_id not in clips]
    known = [(item, clips[item.clip_id]) for item in items if item.clip_id in clips]
    return [
        *count(absent, f"items are not in {base_name(csv)}"),
        *count(
            [f"{item.clip_id}, {clip.split}" for item, clip in known if clip.split != SPLIT],
            f"items are of another split in {base_name(csv)}: models may have been trained on them",
        ),
        *count(
            [f"{item.clip_id}, {clip.label!r} not {item.label!r}" for item, clip in known if clip.label != item.label],
            f"items have another class in {base_name(csv)}",
        ),
    ]


def read_items(vggss: str) -> Iterable[Item]:
    """The items of vggss.json. Raises UsageError for one that is not of the released form, naming it."""
    items = read_json(vggss, EXPECTED)
    if not isinstance(items, list):
        raise UsageError(f"{vggss} holds no list. Expected {EXPECTED}")
    boxes_of_all: list[list[float]] = []
    for number, item in enumerate(items):
        where = f"{vggss}, item {number}"
        if not isinstance(item, Mapping) or not {"file", "class", "bbox"} <= item.keys():
            raise UsageError(f"{where} is {str(item)[:200]}. Expected {EXPECTED}")
        clip_id, label = item["file"], item["class"]
        if not isinstance(clip_id, str) or not re.fullmatch(r"[^/]+_\d{6}", clip_id):
            raise UsageError(f"{where}: file {clip_id!r}. Expected <id>_<start, six digits>")
        if not isinstance(label, str) or not label:
            raise UsageError(f"{where}, {clip_id}: class {label!r}. Expected a class of VGG-Sound")
        if not isinstance(item["bbox"], list):
            raise UsageError(f"{where}, {clip_id}: bbox {str(item['bbox'])[:200]}. Expected a list of [x0, y0, x1, y1]")
        boxes = [read_box(corners, label, f"{where}, {clip_id}") for corners in item["bbox"]]
        boxes_of_all += item["bbox"]
        has_area = [box.x0 < box.x1 and box.y0 < box.y1 for box in boxes]
        inside = tuple(box for box, has in zip(boxes, has_area, strict=True) if has)
        cut = [
            has and not 0 <= min(corners) <= max(corners) <= 1
            for has, corners in zip(has_area, item["bbox"], strict=True)
        ]
        yield Item(clip_id, label, inside, len(boxes) - len(inside), sum(cut))
    require_shares(boxes_of_all, vggss)


def read_box(corners: Any, label: str, where: str) -> Box:
    """A box on the first picture from [x0, y0, x1, y1], cut at the picture's edges; it may have no area left.

    Raises UsageError, which says where, for anything but four finite numbers.
    """
    if not isinstance(corners, list) or len(corners) != 4 or not all(_is_finite(corner) for corner in corners):
        raise UsageError(f"{where}: box {str(corners)[:200]}. Expected four finite numbers, [x0, y0, x1, y1]")
    return Box(0, label, *(float(min(max(corner, 0), 1)) for corner in corners))


def _is_finite(value: Any) -> bool:
    return type(value) is int or (type(value) is float and math.isfinite(value))
