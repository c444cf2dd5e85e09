"""Boxes around the instruments of MUSIC, in DSOL's files or AVGN's, brought to pictures of the clips.

Hu et al., "Discriminative Sounding Objects Localization via Self-supervised Audiovisual Matching" (DSOL):
solotest.json and duettest.json, {"<id>_0_1000/frame_<second>/<frame>.jpg": {"bbox": [{"normbox": [x, y, w, h],
"category_id": 1}]}}, the frames counted from 0. Mo and Tian, "Audio-Visual Grouping Network for Sound Localization
from Mixtures" (AVGN): music_solo.json and music_duet.json, lists of some of them by class names. There, too, a box is
x, y, width and height; AVGN's own code takes the four numbers for corners.

Both annotate test videos of seven instruments. A detector's boxes of any clips and instruments are read in the same
layouts, AVGN's with the instrument's name.
"""

from __future__ import annotations

import bisect
import math
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from cocktail.storage import join, list_names
from cocktail.types import UsageError
from pipelines.datasets.avgn_lists import count
from pipelines.datasets.index import PictureFile, require_shares
from pipelines.datasets.layouts import read_json

FRAMES_PER_SECOND = 30
"""Rate of the videos that were annotated, by both files' names: second and frame."""
CATEGORIES = {
    1: "cello",
    3: "acoustic_guitar",
    8: "saxophone",
    10: "trumpet",
    11: "violin",
    12: "flute",
    13: "accordion",
}
"""DSOL's category ids. The other classes of MUSIC have no boxes there."""
ROUNDING = 0.001
"""A box that reaches over the picture's edge by no more is cut there without a word."""

EXPECTED = "DSOL's solotest.json or duettest.json, or AVGN's music_solo.json or music_duet.json"

_FRAME = re.compile(r"([A-Za-z0-9_-]{11})(?:_\d+_\d+/frame)?_(\d{1,9})[/_](\d{1,9})\.jpg", re.ASCII)

LeftTopSize = tuple[float, float, float, float]
"""Left, top, width, height; shares of the picture's width and height."""
Corners = tuple[float, float, float, float]
"""Left, top, right, bottom; shares of the picture's width and height."""


class Annotation(NamedTuple):
    """One frame of a video as a file annotates it."""

    youtube_id: str
    second: int
    """The whole second that the frame is in."""
    frame: int
    """Counted from 0."""
    path: str
    """Location of the frame in the folder of annotated pictures."""
    boxes: Sequence[tuple[str, LeftTopSize]]
    """Label and place of each object."""

    @property
    def seconds(self) -> float:
        """Time at which the frame is shown."""
        return self.frame / FRAMES_PER_SECOND


class Truth(NamedTuple):
    """The boxes of one picture."""

    picture: PictureFile
    boxes: Sequence[tuple[str, Corners]]
    """Label and corners of each object."""


LeftOut = defaultdict[str, list[str]]
"""The annotated pictures that there is something to tell of, in a sentence each."""
Marked = tuple[Annotation, list[tuple[str, Corners]]]
"""A frame and its boxes that are good."""


def read_truths(
    locations: Sequence[str],
    box_frames: str | None,
    clips: Mapping[str, Sequence[PictureFile]],
    frames_per_second: float,
    labels: Collection[str] = (),
) -> tuple[dict[str, list[Truth]], list[str]]:
    """The pictures with boxes of each clip, by its id, and what was left out or cut: sentences that name
    the first such annotated picture.

    `clips` has the frames of each clip, in time order; `labels` are the instruments that boxes may have besides DSOL's.
    The picture is the annotated one below `box_frames`; without that folder it is the clip's frame nearest in time, and
    of the annotated moments with the same nearest frame the nearest one counts. A clip whose annotated frames are all
    without a box in the picture has an empty list, a clip that no file mentions has none. Raises UsageError for files
    of another kind, a category that is not known, and a folder that holds none of the pictures.
    """
    left_out: LeftOut = defaultdict(list)
    annotations = [annotation for location in locations for annotation in read_annotations(location, labels)]
    usable = _usable(annotations, clips, left_out)
    cut = [(annotation, _all_corners(annotation, left_out)) for annotation in usable]
    truths: dict[str, list[Truth]] = {annotation.youtube_id: [] for annotation, boxes in cut if not boxes}
    marked = [(annotation, boxes) for annotation, boxes in cut if boxes]
    if box_frames is None:
        of_frames = _nearest_frames(marked, clips, 1 / frames_per_second, left_out)
    else:
        of_frames = _annotated_frames(marked, box_frames, left_out)
    for youtube_id, truth in of_frames:
        truths.setdefault(youtube_id, []).append(truth)
    return truths, [note for cause, paths in sorted(left_out.items()) for note in count(paths, cause)]


def read_annotations(location: str, labels: Collection[str] = ()) -> Iterator[Annotation]:
    """The frames of a file, in its order. Raises UsageError for another file, or a category that is neither DSOL's nor
    among the labels."""
    names = {*CATEGORIES.values(), *labels}
    known: dict[int | str, str] = {**CATEGORIES, **{label: label for label in names}}
    content = read_json(location, EXPECTED)
    try:
        frames = list(_dsol_frames(content) if isinstance(content, dict) else _avgn_frames(content))
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise UsageError(f"{location} is something else ({error!r}). Expected {EXPECTED}") from error
    require_shares(
        ((x, y, x + width, y + height) for _, boxes in frames for _, (x, y, width, height) in boxes), location
    )
    for path, boxes in frames:
        match = _FRAME.fullmatch(path) if isinstance(path, str) else None
        if match is None:
            raise UsageError(f"{location}: frame {path!r} is named otherwise. Expected {EXPECTED}")
        for category, _ in boxes:
            if not isinstance(category, int | str) or category not in known:
                raise UsageError(
                    f"{location}, {path}: category {repr(category)[:200]}. Expected one of {CATEGORIES}, or by name "
                    f"{', '.join(sorted(names))}"
                )
        labelled = [(known[category], place) for category, place in boxes]
        yield Annotation(match[1], int(match[2]), int(match[3]), path, labelled)


def _dsol_frames(content: dict[str, Any]) -> Iterator[tuple[str, list[tuple[int | str, LeftTopSize]]]]:
    for path, frame in content.items():
        yield path, [(box["category_id"], _place(box["normbox"])) for box in frame["bbox"]]


def _avgn_frames(content: Any) -> Iterator[tuple[str, list[tuple[int | str, LeftTopSize]]]]:
    for frame in content:
        sources = ("",) if "class" in frame else ("_src1", "_src2")
        boxes = [(frame["class" + source], _place(frame["bbox" + source])) for source in sources]
        yield frame["file"] + ".jpg", boxes


def _place(numbers: Any) -> LeftTopSize:
    x, y, width, height = (float(number) for number in numbers)
    return x, y, width, height


def _usable(
    annotations: Iterable[Annotation], clips: Mapping[str, Sequence[PictureFile]], left_out: LeftOut
) -> list[Annotation]:
    """Annotations of a clip, at a time that is sure, each frame once."""
    usable: dict[tuple[str, int], Annotation] = {}
    for annotation in annotations:
        key = (annotation.youtube_id, annotation.frame)
        if annotation.youtube_id not in clips:
            left_out["annotated frames are of clips that are not in the index: left out"].append(annotation.path)
        elif annotation.frame // FRAMES_PER_SECOND != annotation.second:
            cause = f"annotated frames are of videos with other than {FRAMES_PER_SECOND} a second: left out"
            left_out[cause].append(annotation.path)
        elif key in usable:
            left_out["annotated frames occur again: the first time counts"].append(annotation.path)
        else:
            usable[key] = annotation
            if not annotation.boxes:
                left_out["annotated frames have no box"].append(annotation.path)
    return list(usable.values())


def _all_corners(annotation: Annotation, left_out: LeftOut) -> list[tuple[str, Corners]]:
    """The boxes of a frame that have an area in the picture, cut at its edges."""
    good: list[tuple[str, Corners]] = []
    for label, (x, y, width, height) in annotation.boxes:
        edges = (x, y, x + width, y + height)
        x0, y0, x1, y1 = (min(max(edge, 0.0), 1.0) for edge in edges)
        if not (x1 > x0 and y1 > y0):
            left_out["boxes have no area in the picture: left out"].append(annotation.path)
            continue
        if not -ROUNDING <= min(edges) <= max(edges) <= 1 + ROUNDING:
            left_out["boxes reach over the edge of the picture: cut there"].append(annotation.path)
        good.append((label, (x0, y0, x1, y1)))
    return good


def _annotated_frames(marked: Sequence[Marked], box_frames: str, left_out: LeftOut) -> Iterator[tuple[str, Truth]]:
    """The very pictures, those that are there."""
    paths = [join(box_frames, annotation.path) for annotation, _ in marked]
    folders = sorted({path.rpartition("/")[0] for path in paths})
    with ThreadPoolExecutor(16) as threads:  # an object store answers slowly, but many at once
        names = dict(zip(folders, map(frozenset, threads.map(list_names, folders)), strict=True))
    present = [path.rpartition("/")[2] in names[path.rpartition("/")[0]] for path in paths]
    if paths and not any(present):
        raise UsageError(f"{box_frames} holds none of the {len(paths)} annotated pictures, as {paths[0]}")
    for (annotation, boxes), path, is_there in zip(marked, paths, present, strict=True):
        if is_there:
            yield annotation.youtube_id, Truth(PictureFile(path, annotation.seconds), boxes)
        else:
            left_out["annotated pictures are missing: left out"].append(annotation.path)


def _nearest_frames(
    marked: Iterable[Marked],
    clips: Mapping[str, Sequence[PictureFile]],
    farthest_seconds: float,
    left_out: LeftOut,
) -> Iterator[tuple[str, Truth]]:
    """The frames of the clips that stand in for them."""
    nearest: dict[tuple[str, PictureFile], tuple[float, list[tuple[str, Corners]]]] = {}
    for annotation, boxes in marked:
        frames = clips[annotation.youtube_id]
        place = bisect.bisect_left(frames, annotation.seconds, key=lambda frame: frame.seconds)
        distance, picture = min(
            ((abs(frame.seconds - annotation.seconds), frame) for frame in frames[max(place - 1, 0) : place + 1]),
            default=(math.inf, None),
        )
        if picture is None or distance > farthest_seconds:
            left_out["annotated frames have no frame of the clip near them: left out"].append(annotation.path)
            continue
        key = (annotation.youtube_id, picture)
        if key in nearest:
            left_out["annotated frames share their nearest frame with a nearer one: left out"].append(annotation.path)
        if key not in nearest or distance < nearest[key][0]:
            nearest[key] = (distance, boxes)
    for (youtube_id, picture), (_, boxes) in nearest.items():
        yield youtube_id, Truth(picture, boxes)
