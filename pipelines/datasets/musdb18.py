"""MUSDB18 and MUSDB18-HQ as released: an index with one row a stem, four to a song.

Rafii et al., "The MUSDB18 corpus for music separation". 150 songs, 100 to train and 50 to test. In the HQ form a
song is a folder `<artist - title>/` of wav files, one a stem and mixture.wav; in the other one file
`<artist - title>.stem.mp4`, whose sound tracks are the mixture, drums, bass, other, vocals. A root may hold both.

The mixture is not indexed: it is the sum of the four stems, exactly so in the HQ form. A .stem.mp4 codes its mixture
by itself, with loss, so there it differs slightly from that sum.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import pyarrow as pa

from cocktail.storage import is_folder, join, open_reader
from cocktail.types import UsageError
from pipelines.datasets.index import IndexRow, make_index
from pipelines.datasets.layouts import Folder

STEMS = ("drums", "bass", "other", "vocals")
"""Stems in the order of the tracks of a .stem.mp4, where track 0 is the mixture."""

SONGS_RELEASED = {"train": 100, "test": 50}

TYPICAL_SECONDS = 240.0
"""Length of a song where no wav header says it."""

EXPECTED = "train/ and test/ of MUSDB18, with folders <artist - title>/ of wav files or files <artist - title>.stem.mp4"

_CODED = ".stem.mp4"
_HEADER_BYTES = 4096
_LOWEST_BYTES_PER_SECOND = 8000
_STREAMED_RIFF_BYTES = 0x7FFF0000
"""Length in a RIFF header from which on it means that its writer did not know it."""


class Song(NamedTuple):
    """The four stems of a song and where they lie."""

    name: str
    """Artist and title."""
    split: str
    folder: Folder | None
    """Folder of the wav files; None for a .stem.mp4."""
    coded: str
    """Location of the .stem.mp4."""


def index_musdb18(root: str) -> pa.Table:
    """One row a stem; a song's stems are one group, a stem's name is its class and its role.

    Raises UsageError if neither train/ nor test/ holds a song, and for a song that is there in both forms.
    """
    top = Folder(root, EXPECTED)
    rows: list[IndexRow] = []
    notes: list[str] = []
    for split in SONGS_RELEASED:
        if split not in top.names:
            notes.append(f"{split}/ is not there")
            continue
        songs, split_notes = read_split(top.path(split), split)
        rows += [row for song in songs for row in stem_rows(song)]
        notes += split_notes
    if not rows:
        raise UsageError(f"{root} holds no song: {'; '.join(notes)}. Expected {EXPECTED}")
    return make_index(rows, sorted(STEMS), notes)


def read_split(location: str, split: str) -> tuple[list[Song], list[str]]:
    """The songs of a split in the order of their names, and what there is to tell of it."""
    folder = Folder(location, EXPECTED)
    songs: dict[str, Song] = {}
    strays: list[str] = []
    for entry in folder.names:
        name, path = entry.removesuffix(_CODED), folder.path(entry)
        is_coded = entry.endswith(_CODED)
        if entry.startswith("._") or not (is_coded or is_folder(path)):  # macOS writes ._* beside what it copies
            strays.append(entry)
            continue
        if name in songs:
            raise UsageError(f"{location} holds {name!r} as a folder and as {name}{_CODED}. Delete one of the two")
        songs[name] = Song(name, split, None if is_coded else Folder(path, EXPECTED), path)
    return [songs[name] for name in sorted(songs)], list(_split_notes(folder, split, list(songs.values()), strays))


def _split_notes(folder: Folder, split: str, songs: list[Song], strays: list[str]) -> Iterator[str]:
    if not folder.names and not folder.num_undecodable:
        yield f"{split}/ is empty"
    elif len(songs) != SONGS_RELEASED[split]:
        yield f"{split}/: {len(songs)} of the release's {SONGS_RELEASED[split]} songs"
    num_coded = sum(song.folder is None for song in songs)
    if num_coded:
        yield f"{split}/: the mixture differs slightly from the sum of the stems in each {_CODED}: {num_coded} songs"
    if folder.num_undecodable:
        yield f"{split}/: left out, the name is not UTF-8 (rename it): {folder.num_undecodable}"
    if strays:
        yield f"{split}/: left out, no song: {len(strays)}, as {strays[0]!r}"
    known = {f"{stem}.wav" for stem in (*STEMS, "mixture")}
    others = [join(song.name, name) for song in songs if song.folder for name in song.folder.names if name not in known]
    if others:
        yield f"{split}/: left out, in a song's folder but no stem: {len(others)}, as {others[0]!r}"


def stem_rows(song: Song) -> Iterator[IndexRow]:
    """The four index rows of a song."""
    group = f"{song.split}/{song.name}"
    seconds = TYPICAL_SECONDS if song.folder is None else _song_seconds(song.folder)
    for track, stem in enumerate(STEMS, start=1):
        wav = f"{stem}.wav"
        yield IndexRow(
            clip_id=f"{group}/{stem}",
            recording=group,
            media_path=song.coded if song.folder is None else song.folder.path(wav),
            audio_track=track if song.folder is None else 0,
            pictures=(),
            labels=(stem,),
            split=song.split,
            group=group,
            role=stem,
            nominal_seconds=seconds,
            problem=song.folder and song.folder.problem(wav),
        )


def _song_seconds(folder: Folder) -> float:
    """The length of the first stem that tells one: all are equally long."""
    present = (f"{stem}.wav" for stem in STEMS if folder.problem(f"{stem}.wav") is None)
    lengths = (wav_seconds(folder.path(name)) for name in present)
    return next((seconds for seconds in lengths if seconds is not None), TYPICAL_SECONDS)


def wav_seconds(location: str) -> float | None:
    """About how long a wav file says it is, from its first bytes; None if they tell nothing.

    A file cut short says its whole length, so that the song's shard is the same when the file has been mended.
    """
    try:
        with open_reader(location) as file:
            head = file.read_at(_HEADER_BYTES, 0)
    except FileNotFoundError:  # a link that leads nowhere
        return None
    # "RIFF", bytes that follow, "WAVE", then chunks, each an id and its bytes. "fmt " holds format, channels (2 bytes
    # each), samples a second, bytes a second (4 each).
    position = head.find(b"fmt ", 12)
    rate = int.from_bytes(head[position + 16 : position + 20], "little")
    num_bytes = int.from_bytes(head[4:8], "little")
    if not head.startswith(b"RIFF") or position < 0 or rate < _LOWEST_BYTES_PER_SECOND:
        return None
    return num_bytes / rate if 0 < num_bytes < _STREAMED_RIFF_BYTES else None
