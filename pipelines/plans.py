"""Plans of mixtures: small tables, one row a mixture, that say which bytes to read and how to mix them.

`plan_epoch` and `plan_test` are pure functions of (manifest, settings, seed, epoch). Randomness is
counter-based: the k-th value of a stream is SplitMix64's finaliser of key + (k + 1) * 0x9E3779B97F4A7C15,
where the key is that finaliser folded over (seed, epoch, pass, purpose, ...). So any row can be derived
alone, on any machine.

Shape letters: N sources of a mixture.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cocktail.config import Mixing
from cocktail.types import UsageError
from pipelines.manifest import Manifest

GOLDEN = 0x9E3779B97F4A7C15
CROP_ATTEMPTS = 8
IDLE_PASSES = 20
"""Passes over the test clips without a new combination, after which there are taken to be no more."""
# What a stream of random numbers is for; part of its key.
SHARD_ORDER, CLIP_ORDER, PARTNER, CROP, GAIN = range(1, 6)


def draw(counter: np.ndarray, *key: int) -> np.ndarray:
    """Uniform float64 in [0, 1), one per counter, the same for the same key on any machine."""
    state = np.uint64(0)
    with np.errstate(over="ignore"):
        for part in key:
            state = _finalise(state ^ np.uint64((part + GOLDEN) % 2**64))
        bits = _finalise(state + (counter.astype(np.uint64) + np.uint64(1)) * np.uint64(GOLDEN))
    return (bits >> np.uint64(11)) * 2.0**-53


def _finalise(z):
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@dataclass(frozen=True)
class Clips:
    """The usable clips of a split, as columns."""

    table: pa.Table
    shard: np.ndarray
    class_id: np.ndarray
    num_samples: np.ndarray
    next_loud: np.ndarray
    """[clips, seconds + 1]: the first second at or after this one that sounds, a large number if none."""
    loudest: np.ndarray


_NEVER = 1 << 30


def usable_clips(manifest: Manifest, mixing: Mixing, split: str) -> Clips:
    """The clips of a split that are of one class and hold a second that sounds.

    Raises UsageError if the shards hold another rate or if there are too few classes for a mixture.
    """
    if manifest.sample_rate_hz != mixing.sample_rate_hz:
        raise UsageError(
            f"{manifest.folder} holds audio at {manifest.sample_rate_hz} Hz, but mixing.sample_rate_hz is "
            f"{mixing.sample_rate_hz}: set it, or shard again with --sample-rate-hz {mixing.sample_rate_hz}"
        )
    table = manifest.table.filter(pc.field("split") == split).combine_chunks()
    table = table.filter(pa.array(np.diff(_list(table["class_ids"]).offsets.to_numpy()) == 1))
    rms = _list(table["rms"])
    lengths = np.diff(rms.offsets.to_numpy())
    seconds = int(lengths.max(initial=0))
    level = np.zeros((len(table), seconds), np.float32)
    level[np.arange(seconds) < lengths[:, None]] = rms.flatten().to_numpy()
    # What is left after the last whole second, often a few milliseconds of codec padding, counts as silent.
    level[(np.arange(seconds) + 1) * manifest.sample_rate_hz > table["num_samples"].to_numpy()[:, None]] = 0
    loud = level >= 10 ** (mixing.silence_dbfs / 20)
    candidates = np.where(loud, np.arange(seconds), _NEVER)
    next_loud = np.full((len(table), seconds + 1), _NEVER)
    next_loud[:, :seconds] = np.minimum.accumulate(candidates[:, ::-1], axis=1)[:, ::-1]
    usable = loud.any(axis=1)
    table = table.filter(pa.array(usable))
    class_id = _list(table["class_ids"]).flatten().to_numpy()
    classes = np.unique(class_id)
    if len(classes) < mixing.num_sources:
        raise UsageError(
            f"{manifest.folder} has {len(table)} clips of {len(classes)} classes that sound in its {split} split; "
            f"mixtures of {mixing.num_sources} sources need at least {mixing.num_sources} classes"
        )
    shard_codes = table["shard"].combine_chunks().dictionary_encode()
    return Clips(
        table=table,
        shard=shard_codes.indices.to_numpy(),
        class_id=class_id,
        num_samples=table["num_samples"].to_numpy().astype(np.int64),
        next_loud=next_loud[usable],
        loudest=level[usable].argmax(axis=1),
    )


def _list(column: pa.ChunkedArray) -> pa.ListArray:
    """A column of lists as one array that starts at its first offset."""
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)


def plan_epoch(manifest: Manifest, mixing: Mixing, *, split: str, seed: int, epoch: int) -> pa.Table:
    """The mixtures of an epoch, one row each, in the order in which they are trained.

    Each clip leads one mixture a pass; its partners are drawn evenly among the clips of other classes in
    the same window of shards. Crops and gains are random; no crop is silent. Clips without a sounding
    second take no part. Raises UsageError where the data cannot give such mixtures.
    """
    clips = usable_clips(manifest, mixing, split)
    passes = []
    for number in range(mixing.passes_per_epoch):
        key = (seed, epoch, number)
        chosen = _choose(clips, mixing, key, mixing.window_shards)
        starts = _random_crops(clips, chosen, mixing, key)
        spread = mixing.max_gain - mixing.min_gain
        gains = np.stack([draw(np.arange(len(chosen)), *key, GAIN, n) for n in range(mixing.num_sources)], axis=1)
        passes.append(_rows(manifest, clips, mixing, chosen, starts, mixing.min_gain + spread * gains))
    return pa.concat_tables(passes).combine_chunks()


def plan_test(manifest: Manifest, mixing: Mixing, *, split: str, seed: int, num_mixtures: int) -> pa.Table:
    """A frozen list of test mixtures: crops from the middle of the clips, no gain.

    Each combination of clips occurs once. A clip whose middle is silent is cropped around its loudest second
    instead. Raises UsageError as `plan_epoch` does, or if there are fewer combinations than mixtures wanted.
    """
    clips = usable_clips(manifest, mixing, split)
    all_shards = int(clips.shard.max()) + 1
    chosen = np.empty((0, mixing.num_sources), np.int64)
    number = idle = 0
    while len(chosen) < num_mixtures:
        more = np.concatenate([chosen, _choose(clips, mixing, (seed, 0, number), all_shards)])
        _, first_places = np.unique(np.sort(more, axis=1), axis=0, return_index=True)
        idle = idle + 1 if len(first_places) == len(chosen) else 0
        chosen = more[np.sort(first_places)]
        number += 1
        if idle == IDLE_PASSES:
            raise UsageError(
                f"the {split} split of {manifest.folder} gives only {len(chosen)} different mixtures: lower "
                f"--evaluation.num-mixtures, which is {num_mixtures}"
            )
    chosen = chosen[:num_mixtures]
    starts = np.maximum(clips.num_samples[chosen] - mixing.segment_samples, 0) // 2
    starts = np.where(_sounds(clips, chosen, starts, mixing), starts, _loudest_crops(clips, chosen, mixing))
    return _rows(manifest, clips, mixing, chosen, starts, np.ones(chosen.shape))


def plan_hash(plan: pa.Table) -> str:
    """SHA-256 over a plan's mixture ids in order: the same hash, the same mixtures."""
    return hashlib.sha256("\n".join(plan["mixture_id"].to_pylist()).encode()).hexdigest()


def _choose(clips: Clips, mixing: Mixing, key: tuple[int, ...], window_shards: int) -> np.ndarray:
    """Clip numbers [rows, N]: each clip leads one row, partners have other classes and lie in its window."""
    num_shards = int(clips.shard.max()) + 1
    rank = np.empty(num_shards, np.int64)
    rank[np.argsort(draw(np.arange(num_shards), *key, SHARD_ORDER), kind="stable")] = np.arange(num_shards)
    # A last window that is not full joins the one before.
    window = np.minimum(rank[clips.shard] // window_shards, max(num_shards // window_shards, 1) - 1)
    shuffled = draw(np.arange(len(clips.class_id)), *key, CLIP_ORDER)
    chosen = []
    first_row = 0
    for number in range(int(window.max()) + 1):
        members = np.flatnonzero(window == number)
        leaders = members[np.argsort(shuffled[members], kind="stable")]
        rows = np.arange(first_row, first_row + len(leaders))
        chosen.append(_add_partners(clips.class_id, members, leaders, rows, mixing, key))
        first_row += len(leaders)
    return np.concatenate(chosen)


def _add_partners(
    class_id: np.ndarray,
    members: np.ndarray,
    leaders: np.ndarray,
    rows: np.ndarray,
    mixing: Mixing,
    key: tuple,
) -> np.ndarray:
    by_class = members[np.argsort(class_id[members], kind="stable")]
    sorted_classes = class_id[by_class]
    columns = [leaders]
    for n in range(1, mixing.num_sources):
        taken = np.sort(class_id[np.stack(columns, axis=1)], axis=1)
        begins = np.searchsorted(sorted_classes, taken, side="left")
        counts = np.searchsorted(sorted_classes, taken, side="right") - begins
        available = len(members) - counts.sum(axis=1)
        if (available <= 0).any():
            raise UsageError(
                f"a window of {mixing.window_shards} shards holds only {len(np.unique(sorted_classes))} classes, "
                f"too few for mixtures of {mixing.num_sources}: raise --mixing.window-shards"
            )
        # The position among the clips of other classes, then past each taken class that lies before it.
        position = (draw(rows, *key, PARTNER, n) * available).astype(np.int64)
        for taken_begin, taken_count in zip(begins.T, counts.T, strict=True):
            position += np.where(position >= taken_begin, taken_count, 0)
        columns.append(by_class[position])
    return np.stack(columns, axis=1)


def _sounds(clips: Clips, chosen: np.ndarray, starts: np.ndarray, mixing: Mixing) -> np.ndarray:
    """Whether a crop holds a whole second that sounds."""
    rate = mixing.sample_rate_hz
    ends = np.minimum(starts + mixing.segment_samples, clips.num_samples[chosen])
    first = np.minimum(-(-starts // rate), clips.next_loud.shape[1] - 1)
    second = clips.next_loud[chosen, first]
    return (second + 1) * rate <= ends


def _loudest_crops(clips: Clips, chosen: np.ndarray, mixing: Mixing) -> np.ndarray:
    """Starts of the crops around each clip's loudest second."""
    rate = mixing.sample_rate_hz
    middle = clips.loudest[chosen] * rate + rate // 2
    last = np.maximum(clips.num_samples[chosen] - mixing.segment_samples, 0)
    return np.clip(middle - mixing.segment_samples // 2, 0, last)


def _random_crops(clips: Clips, chosen: np.ndarray, mixing: Mixing, key: tuple[int, ...]) -> np.ndarray:
    """The first of some evenly drawn starts whose crop sounds, else the crop around the loudest second."""
    rows = np.arange(len(chosen))
    choices = np.maximum(clips.num_samples[chosen] - mixing.segment_samples, 0) + 1
    starts = _loudest_crops(clips, chosen, mixing)
    settled = np.zeros(chosen.shape, bool)
    for attempt in range(CROP_ATTEMPTS):
        uniform = np.stack([draw(rows, *key, CROP, n, attempt) for n in range(chosen.shape[1])], axis=1)
        candidate = (uniform * choices).astype(np.int64)
        accepted = ~settled & _sounds(clips, chosen, candidate, mixing)
        starts = np.where(accepted, candidate, starts)
        settled |= accepted
        if settled.all():
            break
    return starts


def _rows(
    manifest: Manifest,
    clips: Clips,
    mixing: Mixing,
    chosen: np.ndarray,
    starts: np.ndarray,
    gains: np.ndarray,
) -> pa.Table:
    N = chosen.shape[1]
    flat = clips.table.take(pa.array(chosen.ravel()))
    gains = gains.astype(np.float32)
    parts = [
        f"{clip}@{start}*{gain:.9g}"
        for clip, start, gain in zip(
            flat["clip_id"].to_pylist(), starts.ravel().tolist(), gains.ravel().tolist(), strict=True
        )
    ]
    head = f"{manifest.dataset}/{mixing.sample_rate_hz}/{mixing.segment_samples}:"
    ids = [
        hashlib.blake2b((head + "+".join(parts[i : i + N])).encode(), digest_size=8).hexdigest()
        for i in range(0, len(parts), N)
    ]

    def per_source(values: Any) -> pa.Array:
        array = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else pa.array(values)
        return pa.FixedSizeListArray.from_arrays(array, N)

    return pa.table(
        {
            "mixture_id": ids,
            "clip_id": per_source(flat["clip_id"]),
            "class_id": per_source(clips.class_id[chosen].ravel()),
            **{name: per_source(flat[name]) for name in ("shard", "audio_offset", "audio_bytes", "num_samples")},
            "start": per_source(starts.ravel()),
            "gain": per_source(gains.ravel()),
            "checks": per_source(_checks(flat, starts.ravel(), mixing)),
        }
    )


def _checks(flat: pa.Table, starts: np.ndarray, mixing: Mixing) -> pa.ListArray:
    """The checksums of the seconds that each crop touches."""
    checks = _list(flat["checks"])
    ends = np.minimum(starts + mixing.segment_samples, flat["num_samples"].to_numpy())
    first = starts // mixing.sample_rate_hz
    counts = -(-ends // mixing.sample_rate_hz) - first
    offsets = np.concatenate([[0], np.cumsum(counts)])
    begins = checks.offsets.to_numpy()[:-1] + first
    places = np.repeat(begins - offsets[:-1], counts) + np.arange(offsets[-1])
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), checks.flatten().take(pa.array(places)))
