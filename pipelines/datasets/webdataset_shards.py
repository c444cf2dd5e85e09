"""Other people's WebDataset shards: tars in which the members of a sample have one name and an ending each.

What belongs to a sample, and which shards a pattern names, is decided by the `webdataset` package (`base_plus_ext`: a
key ends at the first dot; `expand_urls`). Which member is the sound, the picture and the label is said by endings.
Only the tars' headers and the labels are read here; sounds and pictures are read out of the tars where they lie when
shards are written, with the checks and the reasons of any other clip. Members that are pickles are never read.
"""

from __future__ import annotations

import itertools
import tarfile
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Self

import pyarrow as pa
import tyro
from webdataset.shardlists import expand_urls
from webdataset.tariterators import base_plus_ext

from cocktail.foreign.bounded import MAX_TEXT_LETTERS, UntrustworthyError, is_text, parse_json
from cocktail.media.bad_clips import Reason
from cocktail.media.members import member_location
from cocktail.storage import exists, is_folder, join, list_names, open_reader
from cocktail.types import UsageError, require
from pipelines.datasets.drawn_splits import DrawnSplits
from pipelines.datasets.folder import CLIP_SECONDS, SOUND_ONLY, WITH_PICTURES, recording_by
from pipelines.datasets.index import IndexRow, PictureFile, make_index
from pipelines.datasets.layouts import read_text

MAX_LABEL_BYTES = 1 << 20
_PICKLES = ("pyd", "pickle", "pkl", "pth", "pt", "npy", "npz")
"""Endings of members that are pickles, or may hold some."""
_AT_ONCE = 8
_MOST_DIGITS = 9
"""Of a picture's number."""
EXPECTED = "a folder of tars, or their names with braces, as in /data/train-{000..041}.tar"


@dataclass(frozen=True, kw_only=True)
class Members:
    """Which members of a sample are what, by their endings: all that stands behind the first dot of their names."""

    sound: tuple[str, ...] = (*SOUND_ONLY, *WITH_PICTURES)
    """Endings of the sound, the first that a sample has; of a video the pictures are taken, too."""
    picture: tuple[str, ...] = ("jpg", "jpeg", "png", "webp")
    """Endings of pictures, as jpg, or 0.jpg with a number before it, of which all are taken in their order."""
    label: str = "cls"
    """Ending of the label: a text, or a number of `classes`; json:FIELD is a field of a .json, a text or a list of
    texts, and json:FIELD.FIELD one inside another."""
    classes: str | None = None
    """List of the names of classes, a line each, where labels are numbers, from 0 on."""
    recording: str | None = None
    """What names the recording that a sample was cut out of: json:FIELD, or a regular expression whose first group is
    found in SHARD/KEY. None: each sample is one of its own."""
    splits: Literal["drawn", "names"] = "drawn"
    """Splits: drawn by recording, with the shares below; or what a tar's name has before its first dash or dot."""
    drawn: tyro.conf.OmitArgPrefixes[DrawnSplits] = field(default_factory=DrawnSplits)

    def __post_init__(self) -> None:
        for ending in (self.label, *self.sound, *self.picture):
            require(
                ending.rpartition(".")[2] not in _PICKLES,
                f"members that end in .{ending} may hold pickles, which run code when they are read: name others",
            )


class _Member(NamedTuple):
    name: str
    offset: int
    size: int


_EXTENDED = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)
"""Types of headers with a text that `tarfile` reads into memory."""


class _Header(tarfile.TarInfo):
    """A member's header as a stranger may have written it: of a negative size, `tarfile` would go back and read the
    same members for ever (CVE-2025-8194), or all that follows for the text of the header itself."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """Raises tarfile.HeaderError for a header of such a size."""
        header = super().frombuf(buf, encoding, errors)
        if header.size < 0 or (header.type in _EXTENDED and header.size > MAX_LABEL_BYTES):
            raise tarfile.HeaderError(f"a header of {header.size} bytes")
        return header


class _Sample(NamedTuple):
    """What a tar holds of one sample."""

    key: str
    members: dict[str, _Member]
    """By ending, in small letters."""
    texts: dict[str, bytes]
    """Bytes of the members that labels are read from."""


def index_webdataset(shards_in: str, members: Members | None = None) -> pa.Table:
    """One row a sample, in the order of the tars and of what is in them; its clip id is SHARD/KEY. SHARD is the name of
    the tar, of tars with one name in several folders with what differs in their paths before it (`shard_names`).

    A sample without a sound, and one whose members reach beyond the end of their tar, has that for its problem. What
    cannot be read of a tar is noted. Raises UsageError for tars that are not there or hold no sample with a sound.
    """
    members = members or Members()
    tars = find_tars(shards_in)
    names = None if members.classes is None else read_text(members.classes, "names of classes").split("\n")
    classes = None if names is None else [name.strip() for name in names if name.strip()]
    read = _Reader(members, classes, shard_names(tars))
    rows: list[IndexRow] = []
    notes: list[str] = []
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        for of_tar, note in threads.map(read.rows_of, tars):
            rows += of_tar
            notes += [note] if note else []
    for sentence, clip_ids in sorted(read.noted.items()):
        notes.append(f"{sentence}: {len(clip_ids)}, as {min(clip_ids)!r}")
    if not any(row.problem is None for row in rows):
        endings = Counter(ending for each in read.seen.values() for ending in each)
        there = ", ".join(f".{ending} ({count})" for ending, count in endings.most_common(10)) or "nothing"
        raise UsageError(
            f"none of the {len(rows)} samples in {len(tars)} tars has a sound that ends in {', '.join(members.sound)}: "
            f"their members end in {there}. Name the ending of the sound with --sound"
        )
    found = sorted({label for row in rows for label in row.labels})
    return make_index(rows, found if classes is None else list(dict.fromkeys(classes)), notes)


def find_tars(shards: str) -> list[str]:
    """The tars of a folder, in the order of their names, or those that a pattern with braces names.

    Raises UsageError if there is none, or if a named one is not there or is compressed.
    """
    if "{" not in shards and "::" not in shards and is_folder(shards):
        tars = [join(shards, name) for name in list_names(shards) if name.endswith((".tar", ".tar.gz", ".tgz"))]
    else:
        tars = expand_urls(shards)
    require(bool(tars), f"no tar lies in {shards}. Expected {EXPECTED}")
    packed = next((tar for tar in tars if not tar.endswith(".tar")), None)
    require(packed is None, f"{packed} is no plain tar, whose members can be read where they lie: gunzip it")
    absent = [tar for tar in tars if not exists(tar)]
    require(not absent, f"{len(absent)} of {len(tars)} tars are not there, as {absent[:1]}. Expected {EXPECTED}")
    return tars


def shard_names(tars: Sequence[str]) -> dict[str, str]:
    """What each tar is called in clip ids: its name without .tar, or from the first folder on by which it differs from
    others of that name, as in a/000 and b/000."""
    alike: dict[str, list[str]] = {}
    for tar in dict.fromkeys(tars):
        alike.setdefault(tar.rpartition("/")[2].removesuffix(".tar"), []).append(tar)
    names = {}
    for stem, group in alike.items():
        paths = [tar.removesuffix(".tar").split("/") for tar in group]
        num_common = sum(1 for _ in itertools.takewhile(lambda parts: len(set(parts)) == 1, zip(*paths, strict=False)))
        for tar, path in zip(group, paths, strict=True):
            differing = [part for part in path[num_common:] if part not in ("", ".", "..")]
            names[tar] = stem if len(group) == 1 else "/".join(differing)
    return names


class _Reader:
    """Reads tars into rows; several at a time."""

    def __init__(self, members: Members, classes: Sequence[str] | None, names: Mapping[str, str]) -> None:
        self._members, self._classes, self._names = members, classes, names
        by_json = members.recording is not None and members.recording.startswith("json:")
        self._recording_field = members.recording.removeprefix("json:") if by_json and members.recording else None
        self._recording_of = recording_by(None if by_json else members.recording)
        self.noted: dict[str, list[str]] = {}
        """Clip ids by what is odd about them."""
        self.seen: dict[str, list[str]] = {}
        """Endings of the members of each tar's first sample, for a message."""

    def rows_of(self, tar: str) -> tuple[list[IndexRow], str]:
        """The rows of a tar, and what could not be read of it, if anything."""
        stem = tar.rpartition("/")[2].removesuffix(".tar")
        texts = {"json"} if self._members.label.startswith("json:") else {self._members.label.lower()}
        texts |= {"json"} if self._recording_field else set()
        samples, tar_bytes, note = _samples(tar, texts)
        if samples:
            self.seen[tar] = list(samples[0].members)
        return [self._row(tar, stem, sample, tar_bytes) for sample in samples], note

    def _row(self, tar: str, stem: str, sample: _Sample, tar_bytes: int) -> IndexRow:
        clip_id = f"{self._names[tar]}/{sample.key}"
        sound = next((ending for ending in self._members.sound if ending.lower() in sample.members), None)
        problem: Reason | None = None if sound is not None else "missing file"
        used = [] if sound is None else [sample.members[sound.lower()]]
        pictures = None
        if sound is None or sound.rpartition(".")[2].lower() not in WITH_PICTURES:
            shown = self._pictures(sample)
            used += shown
            times = [(number + 0.5) / len(shown) * CLIP_SECONDS for number in range(len(shown))]
            pictures = tuple(
                PictureFile(member_location(tar, member.offset, member.size, member.name), seconds)
                for member, seconds in zip(shown, times, strict=True)
            )
        if any(member.offset + member.size > tar_bytes for member in used):
            problem = "truncated"
        recording = self._recording(sample, clip_id)
        by_name = stem.partition("-")[0].partition(".")[0]
        split = by_name if self._members.splits == "names" else self._members.drawn.split_of(recording)
        return IndexRow(
            clip_id=clip_id,
            recording=recording,
            media_path=member_location(tar, *(used[0].offset, used[0].size, used[0].name) if used else (0, 0, "none")),
            labels=self._labels(sample, clip_id),
            split=split,
            nominal_seconds=CLIP_SECONDS,
            pictures=pictures,
            problem=problem,
        )

    def _pictures(self, sample: _Sample) -> list[_Member]:
        """The pictures of a sample, by the numbers in their endings."""
        wanted = {ending.lower() for ending in self._members.picture}
        found = [
            (ending.rpartition(".")[0], member)
            for ending, member in sample.members.items()
            if ending in wanted or (_is_number(ending.rpartition(".")[0]) and ending.rpartition(".")[2] in wanted)
        ]
        return [member for _, member in sorted(found, key=lambda each: (int(each[0] or -1), each[1].name))]

    def _labels(self, sample: _Sample, clip_id: str) -> tuple[str, ...]:
        """The labels of a sample; none, which is noted, where it has none that can be read."""
        label = self._members.label
        try:
            if label.startswith("json:"):
                value = _field(sample.texts["json"], label.removeprefix("json:"))
            else:
                value = sample.texts[label.lower()].decode("utf-8-sig").strip()
            values = value if isinstance(value, list) else [value]
            return tuple(dict.fromkeys(self._name(each) for each in values))
        except (KeyError, ValueError, UntrustworthyError):
            self.noted.setdefault(f"samples without a label that can be read (.{label})", []).append(clip_id)
            return ()

    def _name(self, value: Any) -> str:
        """A label's name. Raises ValueError for what is none."""
        if self._classes is not None and str(value).isdecimal():
            if int(value) >= len(self._classes):
                raise ValueError(f"there are {len(self._classes)} classes")
            return self._classes[int(value)]
        name = str(value).strip() if isinstance(value, str | int) and not isinstance(value, bool) else ""
        if not name or not is_text(name, MAX_TEXT_LETTERS):
            raise ValueError("no name")
        return name

    def _recording(self, sample: _Sample, clip_id: str) -> str:
        if self._recording_field is None:
            return self._recording_of(clip_id) or clip_id
        try:
            value = _field(sample.texts["json"], self._recording_field)
            if isinstance(value, str | int) and is_text(str(value)) and str(value):
                return str(value)
        except (KeyError, ValueError, UntrustworthyError):
            pass
        self.noted.setdefault("samples that do not say their recording, each one of its own", []).append(clip_id)
        return clip_id


def _samples(tar: str, texts: set[str]) -> tuple[list[_Sample], int, str]:
    """The samples of a tar, its size, and what could not be read of it. `texts` are endings of members to read."""
    found: list[tuple[str, str, _Member]] = []
    read: dict[int, bytes] = {}
    note, last = "", -1
    with open_reader(tar) as file:
        tar_bytes = file.size()
        try:
            with tarfile.open(fileobj=file, mode="r:", tarinfo=_Header) as archive:  # pyright: ignore
                for info in archive:
                    # The text of an extended header may say another size than the header itself.
                    if info.size < 0 or info.offset_data <= last:
                        raise tarfile.HeaderError(f"{info.size} bytes at {info.offset_data}")
                    last = info.offset_data
                    key, ending = base_plus_ext(info.name)
                    if not info.isfile() or key is None or ending is None or not is_text(key):
                        continue
                    member = _Member(info.name.rpartition("/")[2], info.offset_data, info.size)
                    found.append((key, ending.lower(), member))
                end = archive.offset
        except (tarfile.TarError, ValueError, IndexError, RecursionError):  # of headers in headers, or that are none
            end = 0
        # A reader of tars takes anything but a header for the end; it is one where nothing but zeros follows.
        if end < tar_bytes and any(file.read_at(tarfile.BLOCKSIZE, end)):
            note = f"{tar.rpartition('/')[2]} is damaged after {len(found)} members: what follows is not read"
        for _, ending, member in found:
            if ending in texts and member.size <= MAX_LABEL_BYTES and member.offset + member.size <= tar_bytes:
                read[member.offset] = file.read_at(member.size, member.offset)
    samples = []
    for key, group in itertools.groupby(found, key=lambda each: each[0]):
        of_key = {ending: member for _, ending, member in group}
        own = {ending: read[member.offset] for ending, member in of_key.items() if member.offset in read}
        samples.append(_Sample(key, of_key, own))
    return samples, tar_bytes, note


def _is_number(text: str) -> bool:
    return text.isdecimal() and len(text) <= _MOST_DIGITS


def _field(data: bytes, path: str) -> Any:
    """A field of a JSON, by the names on the way. Raises KeyError or UntrustworthyError if there is none."""
    value = parse_json(data, MAX_LABEL_BYTES, is_strict=False)
    for name in path.split("."):
        if not isinstance(value, Mapping):
            raise KeyError(name)
        value = value[name]
    return value
