"""IS3: an index of synthetic scenes of two objects, each of which sounds in a clip of its own.

Senocak et al., "Aligning Sight and Sound: Advanced Sound Source Localization Through Audio-Visual Alignment", 2024. The
release is a folder with `images`, sounds in `audio_waw` (so it is spelled; `audio_wav` is taken, too), a binary picture
a file in `gt_segmentation`, and `IS3_annotation.json`. A file is one object of one scene, `<scene>_<object>`, as
`accordion_baby_10467_accordion` beside `accordion_baby_10467_baby`: the same picture, and another sound. The list has
an object {image, audio, gt_box} for each, files with or without the folders of their authors, and corners in pixels of
a picture of 224 by 224, as in the authors' `synthetic3240_bbox.json`, which may be given in its place.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import pyarrow as pa

from cocktail.storage import join
from cocktail.types import UsageError
from pipelines.datasets.avgn_lists import base_name, count
from pipelines.datasets.index import Box, IndexRow, PictureFile, make_index
from pipelines.datasets.layouts import Folder, files_by_stem, read_json
from pipelines.datasets.vggss import read_box

SPLIT = "test"
LIST_NAME = "IS3_annotation.json"
SIDE = 224
"""Pixels of a side of the pictures that boxes are counted in."""
NOMINAL_SECONDS = 10.0
MASKS = (".png", ".jpg")

EXPECTED = (
    "IS3 as released: images, audio_waw, gt_segmentation, and a list of {image: <scene>_<object>.jpg, "
    "audio: <scene>_<object>.wav, gt_box: [x0, y0, x1, y1] in pixels of 224}"
)


def index_is3(root: str, annotations: str | None = None, truth: Literal["boxes", "masks"] = "boxes") -> pa.Table:
    """One row an object of a scene, in the order of the list, all of the split "test".

    Its class is the end of its name; both objects of a scene are of one recording. With `truth` masks, those of
    `gt_segmentation` are the truth in place of boxes, and objects without one are problems. Raises UsageError for files
    and folders that cannot be what they should be.
    """
    location = annotations or join(root, LIST_NAME)
    items = read_json(location, EXPECTED)
    if not isinstance(items, list) or not items:
        raise UsageError(f"{location} holds no list of objects. Expected {EXPECTED}")
    top = Folder(root, EXPECTED)
    sounds = Folder(top.path("audio_waw" if top.problem("audio_waw") is None else "audio_wav"), EXPECTED)
    images = Folder(top.path("images"), EXPECTED)
    rows = [_row(item, f"{location}, item {number}", images, sounds) for number, item in enumerate(items)]
    if truth == "masks":
        folder = Folder(top.path("gt_segmentation"), EXPECTED)
        names = files_by_stem(folder.names, MASKS)
        rows = [_with_mask(row, folder, names) for row in rows]
    elif all(row.boxes is None for row in rows):
        raise UsageError(f"{location} has no gt_box: give --truth masks, or a list with boxes. Expected {EXPECTED}")
    absent = [row.clip_id for row in rows if row.problem == "missing file"]
    notes = count(absent, f"objects lack a file below {base_name(root)}")
    return make_index(rows, sorted({label for row in rows for label in row.labels}), notes)


def _row(item: Any, where: str, images: Folder, sounds: Folder) -> IndexRow:
    if not isinstance(item, Mapping) or not all(isinstance(item.get(name), str) for name in ("image", "audio")):
        raise UsageError(f"{where} is {str(item)[:200]}. Expected {EXPECTED}")
    image, sound = base_name(item["image"]), base_name(item["audio"])
    clip_id = image.rpartition(".")[0]
    scene, _, label = clip_id.rpartition("_")
    if not scene or not label:
        raise UsageError(f"{where}: image {image!r}. Expected <scene>_<object>.jpg")
    boxes = None if "gt_box" not in item else _boxes(item["gt_box"], label, f"{where}, {clip_id}")
    return IndexRow(
        clip_id=clip_id,
        recording=scene,
        media_path=sounds.path(sound),
        pictures=(PictureFile(images.path(image), 0.0),),
        labels=(label,),
        split=SPLIT,
        boxes=boxes,
        nominal_seconds=NOMINAL_SECONDS,
        problem=sounds.problem(sound) or images.problem(image) or ("empty truth" if boxes == () else None),
    )


def _boxes(corners: Any, label: str, where: str) -> tuple[Box, ...]:
    """The box on the picture, if it has an area there. Raises UsageError for shares, as for other things."""
    if isinstance(corners, list) and all(type(corner) in (int, float) for corner in corners):
        if 0 < max(corners, default=0) <= 1:
            raise UsageError(f"{where}: box {corners} is in shares of the picture. Expected pixels of {SIDE}")
        corners = [corner / SIDE for corner in corners]
    box = read_box(corners, label, where)
    return (box,) if box.x0 < box.x1 and box.y0 < box.y1 else ()


def _with_mask(row: IndexRow, folder: Folder, names: Mapping[str, str]) -> IndexRow:
    """A row whose truth is a mask. What its box says is no problem of it."""
    problem = None if row.problem == "empty truth" else row.problem
    if row.clip_id not in names:
        return IndexRow(**{**vars(row), "boxes": None, "problem": problem or "missing file"})
    return IndexRow(**{**vars(row), "boxes": None, "mask_path": folder.path(names[row.clip_id]), "problem": problem})
