"""AudioSet-SingleSource: clips of AudioSet in which one object sounds, for evaluation only.

Gao et al., "Learning to Separate Object Sounds by Watching Unlabeled Video": instruments, animals and vehicles. The
clips lie in one folder a label, `<label>/<file>`; the folder's name is the label, as it is. The release does not say
how files are named: a YouTube id, alone or before an underscore and numbers (a start, an end), tells the video.
AudioSet's annotations are CC BY 4.0. Media is only listed here, not opened.
"""

from __future__ import annotations

import re

import pyarrow as pa

from cocktail.storage import is_folder, join
from cocktail.types import UsageError
from pipelines.datasets.index import IndexRow, make_index
from pipelines.datasets.layouts import Folder, ending_of

SPLIT = "test"
CLIP_SECONDS = 10.0
WITH_PICTURES = ("mp4", "mkv", "webm")
SOUND_ONLY = ("wav", "flac", "mp3", "m4a")

_VIDEO = re.compile(r"([A-Za-z0-9_-]{11})(_\d+(\.\d+)?)*", re.ASCII)

EXPECTED = f"a folder a label, with clips that end in {', '.join((*WITH_PICTURES, *SOUND_ONLY))}"


def index_audioset_singlesource(root: str) -> pa.Table:
    """One row a media file, in the order of the clip ids, all of the split "test".

    Clips whose ending says that they hold nothing but sound have no pictures. A clip that is there with two endings
    is taken once, with pictures if it has them. Raises UsageError if no label's folder holds a clip.
    """
    top = Folder(root, EXPECTED)
    rows: list[IndexRow] = []
    beside: list[str] = []
    empty: list[str] = []
    not_media: list[str] = []
    num_undecodable = top.num_undecodable
    for label in top.names:
        if not is_folder(top.path(label)):
            beside.append(label)
            continue
        folder = Folder(top.path(label), EXPECTED)
        num_undecodable += folder.num_undecodable
        clips = [name for name in folder.names if ending_of(name) in (*WITH_PICTURES, *SOUND_ONLY)]
        not_media += [join(label, name) for name in folder.names if name not in set(clips)]
        rows += sorted((clip_row(label, name, folder) for name in clips), key=_clip_then_pictures)
        if not clips:
            empty.append(label)
    counted = {
        "sound files, without pictures": [row.media_path for row in rows if row.pictures == ()],
        "files that are not named by a YouTube id, each taken for a recording of its own": [
            row.media_path for row in rows if row.recording == row.clip_id
        ],
        "label folders without a clip": empty,
        "left out, not media": not_media,
        "left out, beside the label folders": beside,
    }
    notes = [f"{sentence}: {len(names)}, as {names[0]!r}" for sentence, names in counted.items() if names]
    if num_undecodable:
        notes.append(f"left out, the name is not UTF-8 (rename it): {num_undecodable}")
    if not rows:
        raise UsageError(f"{root} holds no clip{''.join(f'; {note}' for note in notes)}. Expected {EXPECTED}")
    return make_index(rows, sorted({row.labels[0] for row in rows}), notes)


def clip_row(label: str, name: str, folder: Folder) -> IndexRow:
    """The index row of a file in a label's folder."""
    stem = name.rpartition(".")[0]
    video = _VIDEO.fullmatch(stem)
    return IndexRow(
        clip_id=f"{label}/{stem}",
        recording=f"{label}/{stem}" if video is None else video[1],
        media_path=folder.path(name),
        labels=(label,),
        split=SPLIT,
        nominal_seconds=CLIP_SECONDS,
        pictures=() if ending_of(name) in SOUND_ONLY else None,
    )


def _clip_then_pictures(row: IndexRow) -> tuple[str, bool]:
    return row.clip_id, row.pictures is not None and not row.pictures
