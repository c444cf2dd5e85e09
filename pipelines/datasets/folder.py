"""A folder of one's own: sounds or videos by class, in a folder each or by a list, in splits by recording.

| how | what is said |
|---|---|
| `ROOT/CLASS/FILE` | the class is the folder's name; each file is a recording of its own |
| `ROOT/CLASS/RECORDING/FILE` | files in one folder were cut out of one recording |
| `--csv LIST` | a list with a header: `file`, `class`, and if there are any `split` and `recording` |

`--splits folders` takes the folders of ROOT for splits, with those of classes in them. Media is only listed here, not
opened.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

import pyarrow as pa
import tyro

from cocktail.media.bad_clips import Reason
from cocktail.storage import is_folder, join
from cocktail.types import UsageError, require
from pipelines.datasets.drawn_splits import DrawnSplits
from pipelines.datasets.index import IndexRow, make_index
from pipelines.datasets.layouts import Folder, ending_of, read_csv

WITH_PICTURES = ("mp4", "mkv", "webm", "mov", "avi", "m4v", "mpg", "mpeg")
SOUND_ONLY = ("wav", "flac", "mp3", "m4a", "ogg", "opus", "aac", "aif", "aiff")
CLIP_SECONDS = 10.0
"""Length that is taken for a file's, before it is opened: shards are planned by it, and nothing else is."""

EXPECTED = (
    f"a folder a class, with files that end in {', '.join((*WITH_PICTURES, *SOUND_ONLY))}, or folders of them, one a "
    "recording"
)
EXPECTED_CSV = "a list with a header line: file, class, and if there are any split, recording"
_COLUMNS = ("file", "class", "split", "recording")


@dataclass(frozen=True)
class _File:
    """A file as the layout or list has it."""

    path: str
    """Below the root."""
    label: str
    recording: str
    split: str | None
    """None where it is drawn."""


@dataclass(frozen=True, kw_only=True)
class FolderLayout:
    """What a folder does not say by itself."""

    splits: Literal["drawn", "folders"] = "drawn"
    """Splits: drawn by recording, with the shares below; or the folders of the root, each with those of classes in it.
    A list's column split goes before."""
    recording_pattern: str | None = None
    """Regular expression whose first group, found in a file's path below the root without its ending, names what it was
    cut out of, as '(.*)_[0-9]+$'. None: the folder below the class's, or else the file itself."""
    drawn: tyro.conf.OmitArgPrefixes[DrawnSplits] = field(default_factory=DrawnSplits)


def index_folder(root: str, csv: str | None = None, layout: FolderLayout | None = None) -> pa.Table:
    """One row a media file, in the order of the clip ids, which are paths below the root without the ending.

    Of a file that is there with two endings one is taken, with pictures if it has them. A pattern's first group, found
    in a clip's id, names its recording. Raises UsageError for a folder or list that holds no clip, and for a pattern
    without a group.
    """
    layout = layout or FolderLayout()
    recording_of = recording_by(layout.recording_pattern)
    notes: list[str] = []
    if csv is None:
        files, problem_of = list(_listed_by_folders(root, layout.splits == "folders", notes)), None
    else:
        require(layout.splits == "drawn", "--splits folders is of folders: a list has a column split")
        files, problem_of = list(_listed_by_csv(csv)), _Problems(root)
    if not files:
        raise UsageError(f"{csv or root} holds no clip. Expected {EXPECTED if csv is None else EXPECTED_CSV}")
    rows = []
    for file in files:
        clip_id = file.path.rpartition(".")[0] or file.path
        recording = recording_of(clip_id) or file.recording
        row = IndexRow(
            clip_id=clip_id,
            recording=recording,
            media_path=join(root, file.path),
            labels=(file.label,),
            split=file.split or layout.drawn.split_of(recording),
            nominal_seconds=CLIP_SECONDS,
            pictures=() if ending_of(file.path) in SOUND_ONLY else None,
        )
        rows.append(row if problem_of is None else replace(row, problem=problem_of(file.path)))
    if layout.recording_pattern is not None:
        unmatched = [row.clip_id for row in rows if recording_of(row.clip_id) is None]
        notes += _counted("clips whose names the pattern of recordings does not fit", unmatched)
    rows.sort(key=lambda row: (row.clip_id, row.pictures is not None and not row.pictures))
    return make_index(rows, sorted({file.label for file in files}), notes)


def recording_by(pattern: str | None) -> Callable[[str], str | None]:
    """What finds a clip's recording in its id, if a pattern does. Raises UsageError for a pattern that cannot."""
    if pattern is None:
        return lambda clip_id: None
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise UsageError(f"--recording-pattern {pattern} is no regular expression: {error}") from error
    require(
        compiled.groups > 0,
        f"--recording-pattern {pattern} has no group: put what names the recording in brackets, as in '(.*)_[0-9]+$'",
    )

    def find(clip_id: str) -> str | None:
        found = compiled.search(clip_id)
        return found[1] if found else None

    return find


def _listed_by_folders(root: str, by_split: bool, notes: list[str]) -> Iterator[_File]:
    """The files below class folders; what else there is becomes notes."""
    beside: list[str] = []
    not_media: list[str] = []
    deeper: list[str] = []
    hidden: list[str] = []
    num_undecodable = 0

    def within(path: str) -> Iterator[tuple[str, bool]]:
        nonlocal num_undecodable
        folder = Folder(join(root, path) if path else root, EXPECTED)
        num_undecodable += folder.num_undecodable
        for name in folder.names:
            below = f"{path}/{name}" if path else name
            if name.startswith("."):
                hidden.append(below)
            else:
                yield below, is_folder(folder.path(name))

    def is_media(path: str) -> bool:
        if ending_of(path.rpartition("/")[2]) in (*WITH_PICTURES, *SOUND_ONLY):
            return True
        not_media.append(path)
        return False

    tops: list[tuple[str | None, str]] = []
    for path, is_a_folder in within(""):
        if not is_a_folder:
            beside.append(path)
        elif by_split:
            for below, is_class in within(path):
                tops += [(path, below)] if is_class else []
                beside += [] if is_class else [below]
        else:
            tops.append((None, path))
    for split, of_class in tops:
        label = of_class.rpartition("/")[2]
        for path, is_a_folder in within(of_class):
            if is_a_folder:
                for below, is_deeper in within(path):
                    if is_deeper:
                        deeper.append(below)
                    elif is_media(below):
                        yield _File(below, label, path, split)
            elif is_media(path):
                yield _File(path, label, path.rpartition(".")[0], split)
    notes += _counted("left out, not media", not_media)
    notes += _counted("left out, beside the folders of classes", beside)
    notes += _counted("left out, folders in those of recordings, with all that is in them", deeper)
    notes += _counted("left out, hidden", hidden)
    if num_undecodable:
        notes.append(f"left out, the name is not UTF-8 (rename it): {num_undecodable}")


def _listed_by_csv(csv: str) -> Iterator[_File]:
    """The lines of a list. Raises UsageError for a header or a line that is none."""
    lines = read_csv(csv, EXPECTED_CSV)
    header = next(lines, None)
    names = [] if header is None else header.fields
    unknown = [name for name in names if name not in _COLUMNS]
    if "file" not in names or "class" not in names or unknown or len(set(names)) < len(names):
        raise UsageError(f"{csv} begins with {', '.join(names) or 'nothing'}. Expected {EXPECTED_CSV}")
    for where, fields in lines:
        if len(fields) != len(names):
            raise UsageError(
                f"{where}: {len(fields)} columns, and the header has {len(names)}. Expected {EXPECTED_CSV}"
            )
        line = dict(zip(names, fields, strict=True))
        if not line["file"] or not line["class"]:
            raise UsageError(f"{where}: no {'class' if line['file'] else 'file'}. Expected {EXPECTED_CSV}")
        if re.match(r"/|\w+://", line["file"]) or ".." in line["file"].split("/"):
            raise UsageError(f"{where}: {line['file']} is no path below --root. Expected {EXPECTED_CSV}")
        stem = line["file"].rpartition(".")[0] or line["file"]
        yield _File(line["file"], line["class"], line.get("recording") or stem, line.get("split") or None)


class _Problems:
    """Why files of a list are not there; each folder is listed once."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._folders: dict[str, Folder | None] = {}

    def __call__(self, path: str) -> Reason | None:
        folder, _, name = path.rpartition("/")
        if folder not in self._folders:
            place = join(self._root, folder) if folder else self._root
            self._folders[folder] = Folder(place, EXPECTED_CSV) if is_folder(place) else None
        listed = self._folders[folder]
        return "missing file" if listed is None else listed.problem(name)


def _counted(sentence: str, names: list[str]) -> list[str]:
    return [f"{sentence}: {len(names)}, as {names[0]!r}"] if names else []
