"""The mean spectrum of each class of a data set: one pass over the clips of one class of a split, a Ray task a shard.

What is measured is kept in a file that is named by what decides it: the shards' root hash, the split, and the settings.
The values are the same however many tasks there are, and in whatever order they end.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from cocktail.audio.class_spectra import (
    HOP_SECONDS,
    MOST_VALUES,
    WINDOW_SECONDS,
    ClassSpectra,
    num_bins_at,
    power_shares_of_pieces,
)
from cocktail.config.splits import Split
from cocktail.foreign.bounded import parse_json, read_bounded
from cocktail.storage import exists, join, write_atomic
from cocktail.text.printable import on_one_line
from cocktail.types import UsageError
from pipelines.describe.counts import measure_levels
from pipelines.progress import ClipProgress
from pipelines.shards.manifest import Manifest
from pipelines.shards.on_cluster import LESS_AT_ONCE, map_on_cluster, note_of
from pipelines.shards.reader import ClipReader, ClipSource, DamagedMemberError

_READ = ("clip_id", "audio_offset", "audio_bytes", "num_samples", "checks")
_UNIT = 1 << 40
"""Shares of power are summed in whole parts of this: such sums do not depend on their order."""
_LARGEST_FILE = 1 << 26
_SECONDS_AT_ONCE = {"wav": 30, "flac": 600}
"""Seconds of a clip that are in memory at one time, by the format: FLAC is read from its start for each of them."""
_SHOWN = 5
"""Damaged clips that are named."""


def class_spectra(
    manifest: Manifest, split: str, silence_dbfs: float, folder: str, source: ClipSource, connect: Callable[[], None]
) -> ClassSpectra | None:
    """The mean spectra of all classes of a data set over the clips of a split, or of a part of one.

    They are read from the folder if they were measured before, or else measured on the cluster, after `connect`, and
    written there, unless clips are damaged: those are named and left out. None, said in a line, of more classes than
    can be kept. Raises UsageError if the file in the folder is damaged.
    """
    num_classes, rate = len(manifest.classes), manifest.sample_rate_hz
    if _are_too_many(manifest):
        print(f"no mean spectra of classes: {num_classes} at {rate} Hz are more than can be kept", flush=True)
        return None
    location = _location(manifest, split, silence_dbfs, folder)
    try:
        return _read(location, num_classes, rate)
    except FileNotFoundError:
        pass
    clips = clips_to_measure(manifest, split, silence_dbfs)
    if len(clips):
        connect()
    spectra, damaged = measure(clips, num_classes, source)
    for message in damaged[:_SHOWN]:
        print(f"left out of the mean spectra of classes: {on_one_line(message)}", flush=True)
    if len(damaged) > _SHOWN:
        print(f"and {len(damaged) - _SHOWN} clips more", flush=True)
    if not damaged:  # else they may be mended
        write_atomic(location, json.dumps(spectra.to_plain()).encode())
    num_heard = int((spectra.num_clips > 0).sum())
    print(f"mean spectra of {num_heard} classes over {spectra.num_clips.sum()} clips of {split}", flush=True)
    return spectra


def num_clips_to_read(manifest: Manifest, split: str, silence_dbfs: float, folder: str) -> int:
    """Clips that `class_spectra` would read all sound of: none where it was measured before, or cannot be kept."""
    if _are_too_many(manifest) or exists(_location(manifest, split, silence_dbfs, folder)):
        return 0
    return len(clips_to_measure(manifest, split, silence_dbfs))


def _are_too_many(manifest: Manifest) -> bool:
    return len(manifest.classes) * num_bins_at(manifest.sample_rate_hz) > MOST_VALUES


def _location(manifest: Manifest, split: str, silence_dbfs: float, folder: str) -> str:
    return join(folder, f"class-spectra-{spectra_key(manifest, split, silence_dbfs)}.json")


def spectra_key(manifest: Manifest, split: str, silence_dbfs: float) -> str:
    """A name for all that decides the mean spectra of a data set."""
    decides = [manifest.root_hash, list(manifest.classes), split, silence_dbfs, WINDOW_SECONDS, HOP_SECONDS, _UNIT]
    return hashlib.sha256(json.dumps(decides).encode()).hexdigest()[:16]


def _read(location: str, num_classes: int, sample_rate_hz: int) -> ClassSpectra:
    """The spectra in a file. Raises FileNotFoundError if there is none, UsageError if it is damaged, and StorageError
    if it cannot be read now."""
    data = read_bounded(location, _LARGEST_FILE)  # what goes wrong here is told, and deleting the file mends no outage
    try:
        return ClassSpectra.of_plain(parse_json(data, _LARGEST_FILE), num_classes, sample_rate_hz)
    except ValueError as error:
        raise UsageError(f"{location} {error}: delete it, and it is measured again") from error


def clips_to_measure(manifest: Manifest, split: str, silence_dbfs: float) -> pa.Table:
    """The rows of the manifest that class spectra are measured on, with the number of their class, `class_id`.

    Those are the clips of the split that have exactly one class and a whole second that sounds.
    """
    part, table = Split.of(split), manifest.table
    chosen = np.array(table["split"].to_pylist(), dtype=object) == part.name
    if not part.is_whole:
        chosen &= part.holds(table["recording"].to_pylist())
    class_ids = table["class_ids"].to_pylist()
    chosen &= np.array([len(ids) == 1 for ids in class_ids], bool)
    levels = measure_levels(manifest)
    sounding = levels.clip_of_second[levels.second_rms >= 10 ** (silence_dbfs / 20)]
    chosen &= np.bincount(sounding, minlength=len(table)) > 0
    own = pa.array([class_ids[row][0] for row in np.flatnonzero(chosen)], pa.int32())
    return table.filter(pa.array(chosen)).append_column("class_id", own)


def measure(clips: pa.Table, num_classes: int, source: ClipSource) -> tuple[ClassSpectra, list[str]]:
    """The mean spectra of what `clips_to_measure` gives, on the cluster that is connected, and what is wrong with clips
    that are damaged, in order; shows progress."""
    num_bins = num_bins_at(source.sample_rate_hz)
    sums, num_clips = np.zeros((num_classes, num_bins), np.int64), np.zeros(num_classes, np.int64)
    damaged: list[str] = []
    with ClipProgress(len(clips), "measured (mean spectra of classes)") as progress:
        advice = "Give nodes with more memory, or fewer CPUs"
        kwargs, folder = {"source": source}, source.folder
        for result in map_on_cluster(_by_shard(clips), measure_shard, kwargs, None, advice, folder=folder):
            class_ids = np.array(result["class_ids"], np.int64)
            sums[class_ids] += np.frombuffer(result["sums"], np.int64).reshape(len(class_ids), num_bins)
            num_clips[class_ids] += np.array(result["num_clips"], np.int64)
            damaged += result["damaged"]
            progress.advance(int(np.sum(result["num_clips"])), len(result["damaged"]))
    power = sums / (_UNIT * np.maximum(num_clips, 1)[:, None])
    spectra = ClassSpectra(sample_rate_hz=source.sample_rate_hz, power=power.astype(np.float32), num_clips=num_clips)
    return spectra, sorted(damaged)


def measure_shard(
    row: Mapping[str, Any], source: ClipSource, run: str = "", advice: str = LESS_AT_ONCE
) -> dict[str, Any]:
    """Sums over the clips of a shard: of each of `class_ids` the `num_clips`, and in `sums` the bytes of int64
    [classes, F], the sum of their shares of power in parts of _UNIT; and in `damaged` what is wrong with the others.
    `run` names the run whose task this is, and that ends, with advice, if its tasks are killed again and again at one
    clip."""
    shard, measured, damaged = row["shard"], defaultdict[int, list[np.ndarray]](list), list[str]()
    with (
        note_of(source.folder, shard, run, advice) as note,
        pa.ipc.open_stream(row["clips"]) as stream,
        ClipReader(source) as reader,
    ):
        reader.prepare([shard])
        for clip in stream.read_all().to_pylist():
            note.begin(clip["clip_id"])
            try:
                pieces = _pieces(reader, clip | {"shard": shard})
                shares = np.rint(power_shares_of_pieces(pieces, source.sample_rate_hz) * _UNIT)
            except DamagedMemberError as error:
                damaged.append(str(error))
                continue
            measured[clip["class_id"]].append(shares.astype(np.int64))
    return {
        "shard": shard,
        "class_ids": list(measured),
        "num_clips": [len(shares) for shares in measured.values()],
        "sums": b"".join(np.sum(shares, axis=0).tobytes() for shares in measured.values()),
        "damaged": damaged,
    }


def _pieces(reader: ClipReader, clip: Mapping[str, Any]) -> Iterator[np.ndarray]:
    """All sound of a clip, int16 [T] at a time, each good until the next is asked for. Raises DamagedMemberError."""
    rate, seconds = reader.source.sample_rate_hz, _SECONDS_AT_ONCE[reader.source.audio_format]
    for first in range(0, len(clip["checks"]), seconds):
        start = first * rate
        count = min(seconds * rate, clip["num_samples"] - start)
        yield reader.sound(clip, start, count, clip["checks"][first : first + seconds])


def _by_shard(clips: pa.Table) -> pa.Table:
    """A row a shard: its name, and its clips as the bytes of an Arrow stream, since Ray would unpack nested lists."""
    ordered = clips.sort_by("shard")
    counts = ordered["shard"].value_counts().to_pylist()
    shards, tables, begin = [], [], 0
    for count in counts:
        shards.append(count["values"])
        tables.append(_to_bytes(ordered.slice(begin, count["counts"]).select([*_READ, "class_id"])))
        begin += count["counts"]
    return pa.table({"shard": pa.array(shards, pa.string()), "clips": pa.array(tables, pa.large_binary())})


def _to_bytes(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return sink.getvalue().to_pybytes()
