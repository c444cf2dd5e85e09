"""VGG-Sound as released: an index of its clips, of all classes or of those that the papers use.

Chen et al., "VGGSound: A Large-scale Audio-Visual Dataset". The csv has no header and four columns: YouTube
id, start second, label, split; labels contain commas. The clips lie in one folder as `<id>_<start>.mp4`, the
start in six digits. Media is only listed here, not opened.

SGN and AVGN train on "150k clips of 221 categories" and give no rule. VGG-SS has exactly 221 classes, which hold
149,586 clips of VGG-Sound, so the rule taken here is: the classes that occur in VGG-SS.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import pyarrow as pa

from cocktail.types import UsageError
from pipelines.datasets.index import IndexRow, make_index
from pipelines.datasets.layouts import Folder, read_csv, read_json

SPLITS = ("train", "test")
CLIP_SECONDS = 10.0

EXPECTED = 'the released vggsound.csv: id, start second, label, split, as in: ---g-f_I2yQ,1,"people marching",test'


class ListedClip(NamedTuple):
    """A clip as a row of the csv lists it."""

    clip_id: str
    """Id of the clip, and the name of its media file without the ending."""
    label: str
    split: str

    @property
    def youtube_id(self) -> str:
        """The video that it was cut out of: what stands before the start."""
        return self.clip_id.rpartition("_")[0]


def index_vggsound(csv: str, videos: str, vggss: str | None = None) -> pa.Table:
    """One row a line of the csv, in its order; given vggss.json, of the classes that occur in it.

    A class id is the place in the sorted list of the classes. Raises UsageError for a csv or a folder that cannot
    be what it should be, and for a class that the csv does not have.
    """
    clips = list(read_clips(csv))
    if not clips:
        raise UsageError(f"{csv} is empty. Expected {EXPECTED}")
    labels = {clip.label for clip in clips}
    kept = labels if vggss is None else set(vggss_classes(vggss))
    unknown = sorted(kept - labels)
    if unknown:
        raise UsageError(f"{csv} has no clip of {len(unknown)} of the {len(kept)} classes, as {unknown[0]!r}")
    folder = Folder(videos, "the folder of clips, named <id>_<start, six digits>.mp4")
    rows = [clip_row(clip, folder) for clip in clips if clip.label in kept]
    notes = [] if vggss is None else [f"{len(clips) - len(rows)} of {len(clips)} clips are of other classes"]
    if all(row.problem is not None for row in rows):
        raise UsageError(
            f"{videos} holds none of the {len(rows)} clips of {csv}. "
            f"Expected files named <id>_<start, six digits>.mp4, the first one {rows[0].clip_id}.mp4"
        )
    return make_index(rows, sorted(kept), notes)


def clip_row(clip: ListedClip, folder: Folder) -> IndexRow:
    """The index row of a clip whose media lie in a folder."""
    name = f"{clip.clip_id}.mp4"
    return IndexRow(
        clip_id=clip.clip_id,
        recording=clip.youtube_id,
        media_path=folder.path(name),
        labels=(clip.label,),
        split=clip.split,
        nominal_seconds=CLIP_SECONDS,
        problem=folder.problem(name),
    )


def read_clips(csv: str) -> Iterator[ListedClip]:
    """The rows of vggsound.csv."""
    for where, fields in read_csv(csv, EXPECTED, num_columns=4):
        youtube_id, start, label, split = fields
        if not (start.isascii() and start.isdigit() and len(start) <= 6):
            raise UsageError(f"{where}: start second {start!r}. Expected a whole number of at most six digits")
        if split not in SPLITS:
            raise UsageError(f"{where}: split {split!r}. Expected one of {', '.join(SPLITS)}")
        if not youtube_id or not label:
            raise UsageError(f"{where}: no {'label' if youtube_id else 'id'}: {fields}. Expected {EXPECTED}")
        yield ListedClip(f"{youtube_id}_{int(start):06d}", label, split)


def vggss_classes(vggss_json: str) -> list[str]:
    """The sorted classes that occur in VGG-SS: the 221 of the papers."""
    expected = "the released vggss.json: a list of {file, class, bbox}"
    items = read_json(vggss_json, expected)
    if not isinstance(items, list) or not all(isinstance(item, Mapping) and "class" in item for item in items):
        raise UsageError(f"{vggss_json} is something else. Expected {expected}")
    if not items:
        raise UsageError(f"{vggss_json} is empty. Expected {expected}")
    return sorted({str(item["class"]) for item in items})
