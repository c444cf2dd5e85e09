"""Flickr-SoundNet's test set: an index of frames in which several people marked what sounds.

Senocak et al., "Learning to Localize Sound Source in Visual Scenes" (CVPR 2018), in the layout of "Localizing Visual
Sounds the Hard Way" (Chen et al., 2021), EZ-VSL and SLAVC: `frames/<id>.jpg`, `audio/<id>.wav`, and a list of the 250
that are tested, an id a line, more columns or not. Annotations are a folder of <id>.xml: in it elements `bbox`, of five
children, the last four of which are x0, y0, x1 and y1 in a picture of 256 by 256. Nothing has a class.

Truth is what at least two boxes cover, whoever drew them. Chen et al. count the pixels of one box by a half: their
consensus IoU is between those of `agreement` 2 and 1. Use is for research only.
"""

from __future__ import annotations

import re
from itertools import combinations
from xml.etree import ElementTree

import pyarrow as pa

from cocktail.storage import join
from cocktail.types import UsageError
from pipelines.datasets.avgn_lists import base_name, count
from pipelines.datasets.index import Box, IndexRow, PictureFile, make_index
from pipelines.datasets.layouts import Folder, read_csv, read_text

SPLIT = "test"
SIDE = 256
"""Pixels of a side of the pictures that boxes are counted in."""
NOMINAL_SECONDS = 20.0

EXPECTED = "frames/<id>.jpg and audio/<id>.wav"
LIST_EXPECTED = "an id a line, as flickr_test.csv of Localizing Visual Sounds the Hard Way"
XML_EXPECTED = "the released annotations, <id>.xml with elements bbox: something, x0, y0, x1, y1 in pixels of 256"


def index_flickr_soundnet(root: str, annotations: str, test_list: str, agreement: int = 2) -> pa.Table:
    """One row an id of the list, in its order, all of the split "test".

    The truth is what at least `agreement` boxes cover, 1 or 2; frames without any such place are problems. Raises
    UsageError for files and folders that cannot be what they should be.
    """
    if agreement not in (1, 2):
        raise UsageError(f"--agreement is {agreement}: truth is what 1 or 2 boxes cover")
    frames, sounds = (Folder(join(root, kind), EXPECTED) for kind in ("frames", "audio"))
    marked = Folder(annotations, XML_EXPECTED)
    names = list(dict.fromkeys(line.fields[0] for line in read_csv(test_list, LIST_EXPECTED)))
    if not names:
        raise UsageError(f"{test_list} is empty. Expected {LIST_EXPECTED}")
    rows = []
    for name in names:
        problem = sounds.problem(f"{name}.wav") or frames.problem(f"{name}.jpg") or marked.problem(f"{name}.xml")
        boxes = None if marked.problem(f"{name}.xml") else _agreed(read_boxes(marked.path(f"{name}.xml")), agreement)
        rows.append(
            IndexRow(
                clip_id=name,
                recording=name,
                media_path=sounds.path(f"{name}.wav"),
                pictures=(PictureFile(frames.path(f"{name}.jpg"), 0.0),),
                labels=(),
                split=SPLIT,
                boxes=boxes,
                nominal_seconds=NOMINAL_SECONDS,
                problem=problem or ("empty truth" if boxes == () else None),
            )
        )
    absent = [row.clip_id for row in rows if row.problem == "missing file"]
    apart = [row.clip_id for row in rows if row.problem == "empty truth"]
    notes = [
        *count(absent, f"ids of {base_name(test_list)} lack a file"),
        *count(apart, f"frames have no place that {agreement} boxes cover, and are set aside"),
    ]
    return make_index(rows, [], notes)


def read_boxes(location: str) -> list[Box]:
    """The boxes of all annotators of a frame, in shares of the picture, cut at its edges. Raises UsageError for another
    file."""
    try:
        root = ElementTree.fromstring(read_text(location, XML_EXPECTED))
    except ElementTree.ParseError as error:
        raise UsageError(f"{location} is no XML ({error}). Expected {XML_EXPECTED}") from error
    boxes = []
    for element in root.iter("bbox"):
        said = [(child.text or "").strip() for child in element]
        if len(said) != 5 or not all(re.fullmatch(r"-?\d+", text) for text in said[1:]):
            raise UsageError(f"{location}: bbox {said}. Expected {XML_EXPECTED}")
        boxes.append(Box(0, None, *(min(max(int(text) / SIDE, 0.0), 1.0) for text in said[1:])))
    return boxes


def _agreed(boxes: list[Box], agreement: int) -> tuple[Box, ...]:
    """Boxes whose union is what so many of some boxes cover."""
    if agreement == 2:
        boxes = [
            Box(0, None, max(a.x0, b.x0), max(a.y0, b.y0), min(a.x1, b.x1), min(a.y1, b.y1))
            for a, b in combinations(boxes, 2)
        ]
    return tuple(box for box in boxes if box.x0 < box.x1 and box.y0 < box.y1)
