"""The clips of a split that mixtures are drawn from, as columns."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from cocktail.config.mixing import Mixing
from cocktail.config.splits import Split
from cocktail.types import NO_CLASS, UsageError
from pipelines.shards.manifest import MANIFEST_COLUMNS, Manifest

NEVER = 1 << 30
"""A second that no clip has."""

_NOT_NEEDED = ("key", "split", "labels", "duration")
_NEEDED = [name for name in MANIFEST_COLUMNS.names if name not in _NOT_NEEDED]


@dataclass(frozen=True, kw_only=True, eq=False)
class ClipPool:
    """Usable clips; a clip's number is its row."""

    manifest: Manifest
    mixing: Mixing
    split: str
    """Name of the split, or of a part of one: see `cocktail.config.splits`."""
    table: pa.Table
    """Their rows of the manifest."""
    left_out: Mapping[str, int]
    """Clips of the split that cannot be used, by reason; those without any are not named."""
    shard: np.ndarray
    """Shard of each clip, [clips], counted from 0 in the order of their names."""
    class_id: np.ndarray
    """Class of each clip of one class, [clips]; NO_CLASS for one of none or of several."""
    num_samples: np.ndarray
    next_loud: pa.ListArray
    """First second at or after each that sounds, int32, a list a clip of its seconds and one more; NEVER if there is
    none."""
    loudest: np.ndarray
    """Loudest second of each clip, [clips]."""

    def __len__(self) -> int:
        return len(self.table)

    @functools.cached_property
    def shard_names(self) -> list[str]:
        """Names of the shards, each once, in the order in which `shard` counts them."""
        return self.table["shard"].unique().to_pylist()

    @functools.cached_property
    def kinds(self) -> np.ndarray:
        """Kind of each clip, [clips], in which the sources of one mixture must differ: its class, or else only the
        clip; the number of its set of classes where clips may have several, and then the sets must not overlap."""
        if self.mixing.distinct_classes and self.mixing.several_classes:
            return self._sets_of_classes[1]
        return self.class_id if self.mixing.distinct_classes else np.arange(len(self))

    @property
    def class_sets(self) -> np.ndarray | None:
        """Classes of each kind, bool [kinds, C]; None unless kinds are sets of classes."""
        return self._sets_of_classes[0] if self.mixing.distinct_classes and self.mixing.several_classes else None

    @functools.cached_property
    def _sets_of_classes(self) -> tuple[np.ndarray, np.ndarray]:
        """The different sets of classes bool [sets, C] in the order of their ids, and each clip's int64 [clips]."""
        of_clips = [tuple(sorted(ids)) for ids in self.table["class_ids"].to_pylist()]
        number_of = {ids: number for number, ids in enumerate(sorted(set(of_clips)))}
        sets = np.zeros((len(number_of), len(self.manifest.classes)), bool)
        for ids, number in number_of.items():
            sets[number, list(ids)] = True
        return sets, np.array([number_of[ids] for ids in of_clips], np.int64)

    def alike(self, clips: np.ndarray | int, others: np.ndarray | int) -> np.ndarray | np.bool:
        """Whether clips and others, one by one, cannot be sources of one mixture: they are of one kind, or share a
        class."""
        kinds, other_kinds = self.kinds[clips], self.kinds[others]
        if self.class_sets is None:
            return kinds == other_kinds
        return (self.class_sets[kinds] & self.class_sets[other_kinds]).any(axis=-1)

    @functools.cached_property
    def name_hashes(self) -> np.ndarray:
        """XXH3 of each clip id, uint64 [clips]."""
        return np.array(
            [xxhash.xxh3_64_intdigest(name.encode()) for name in self.table["clip_id"].to_pylist()], np.uint64
        )

    @functools.cached_property
    def picture_times(self) -> tuple[np.ndarray, np.ndarray]:
        """Begin of each clip's pictures in the list of all, int64 [clips + 1], and the pictures' seconds, float64."""
        seconds = list_array(self.table["frame_seconds"])
        return seconds.offsets.to_numpy().astype(np.int64), seconds.flatten().to_numpy()

    def sounds(self, chosen: np.ndarray, starts: np.ndarray) -> np.ndarray:
        """Whether the crops of clips from `starts` on, in samples, hold a whole second that sounds."""
        rate, next_loud = self.mixing.sample_rate_hz, self.next_loud.values.to_numpy()
        ends = np.minimum(starts + self.mixing.segment_samples, self.num_samples[chosen])
        begins = self.next_loud.offsets.to_numpy()
        first = np.minimum(begins[chosen] + -(-starts // rate), begins[chosen + 1] - 1)
        return (next_loud[first].astype(np.int64) + 1) * rate <= ends

    def last_starts(self, chosen: np.ndarray) -> np.ndarray:
        """The last sample that a crop of each clip can start at; 0 for clips shorter than a crop."""
        return np.maximum(self.num_samples[chosen] - self.mixing.segment_samples, 0)

    def loudest_crops(self, chosen: np.ndarray) -> np.ndarray:
        """Starts of the crops around each clip's loudest second."""
        rate = self.mixing.sample_rate_hz
        middle = self.loudest[chosen] * rate + rate // 2
        return np.clip(middle - self.mixing.segment_samples // 2, 0, self.last_starts(chosen))

    def in_words(self) -> str:
        """One line: how many clips and classes, and what is left out."""
        left_out = ", ".join(f"{count} {reason}" for reason, count in self.left_out.items())
        num_classes = len(list_array(self.table["class_ids"]).flatten().unique())
        several = int((np.diff(list_array(self.table["class_ids"]).offsets.to_numpy()) > 1).sum())
        return (
            f"{self.split}: {len(self)} clips of {num_classes} classes"
            + f", {several} of several" * self.mixing.several_classes
            + f"; left out {left_out}" * bool(left_out)
        )


def usable_clips(manifest: Manifest, mixing: Mixing, split: str) -> ClipPool:
    """The clips of a split that can be a source.

    Those hold a second that sounds, a picture if pictures are wanted, and have exactly one class if the sources of a
    mixture are to share none, unless several are asked for; whole clips have as many classes as there are to be
    sources. Raises UsageError if the shards hold another rate or give no mixture.
    """
    if manifest.sample_rate_hz != mixing.sample_rate_hz:
        raise UsageError(
            f"{manifest.folder} holds audio at {manifest.sample_rate_hz} Hz, but mixing.sample_rate_hz is "
            f"{mixing.sample_rate_hz}: make the shards with --sample-rate-hz {mixing.sample_rate_hz}, as there is no "
            "other way for a model that was trained at that rate, or train at the rate of the shards, with "
            f"--mixing.sample-rate-hz {manifest.sample_rate_hz}"
        )
    table = _clips_of(manifest, split)
    seconds = _Seconds.of(table, mixing)
    usable, left_out = np.ones(len(table), bool), dict[str, int]()
    for reason, holds in _conditions(table, seconds, mixing).items():
        if (usable & ~holds).any():
            left_out[reason] = int((usable & ~holds).sum())
        usable &= holds
    if not usable.all():
        table = table.filter(pa.array(usable)).combine_chunks()
        seconds = _Seconds.of(table, mixing)
    table = table.drop_columns(["rms", "recording"])
    pool = ClipPool(
        manifest=manifest,
        mixing=mixing,
        split=split,
        table=table,
        left_out=left_out,
        shard=table["shard"].combine_chunks().dictionary_encode().indices.to_numpy(),
        class_id=_only_classes(table),
        num_samples=table["num_samples"].to_numpy().astype(np.int64),
        next_loud=seconds.next_loud(),
        loudest=seconds.loudest(),
    )
    num_kinds = len(np.unique(pool.kinds))
    if num_kinds < mixing.clips_per_mixture:
        needed = f"{mixing.num_sources} {'classes' if mixing.distinct_classes else 'clips'}"
        raise UsageError(
            f"{manifest.folder} gives too few sources, {pool.in_words()}: mixtures of {mixing.num_sources} sources "
            f"need at least {'one such clip' if mixing.arrangement == 'whole' else needed}"
        )
    return pool


def of_classes(pool: ClipPool, names: Sequence[str]) -> ClipPool:
    """The clips of a pool all of whose classes are among those named; all of its clips, if none is named.

    Raises UsageError for a name that is no class of the data set, or if too few clips are left.
    """
    if not names:
        return pool
    manifest = pool.manifest
    if unknown := [name for name in names if name not in manifest.classes]:
        raise UsageError(
            f"--evaluation.classes: {manifest.folder} has no class {unknown[0]}. It has {', '.join(manifest.classes)}"
        )
    wanted = {manifest.classes.index(name) for name in names}
    kept = [bool(ids) and set(ids) <= wanted for ids in manifest.table["class_ids"].to_pylist()]
    return usable_clips(replace(manifest, table=manifest.table.filter(pa.array(kept))), pool.mixing, pool.split)


def _clips_of(manifest: Manifest, split: str) -> pa.Table:
    """The rows of a split, or a part of one. Raises UsageError if there is no such split."""
    part = Split.of(split)
    of_split = pc.equal(manifest.table["split"], part.name)  # pyright: ignore[reportAttributeAccessIssue]
    table = manifest.table.select(_NEEDED).filter(of_split)
    if not len(table):
        counts = pc.value_counts(manifest.table["split"]).to_pylist()  # pyright: ignore[reportAttributeAccessIssue]
        splits = ", ".join(f"{count['values']} ({count['counts']} clips)" for count in counts)
        raise UsageError(f"{manifest.folder} has no split {part.name}, but {splits or 'no clips'}")
    if not part.is_whole:
        table = table.filter(pa.array(part.holds(table["recording"].to_pylist())))
    return table.combine_chunks()


def _conditions(table: pa.Table, seconds: _Seconds, mixing: Mixing) -> dict[str, np.ndarray]:
    """Conditions on a source, bool [clips] each, by what is said of clips that do not fulfil them."""
    class_counts, picture_counts = (
        np.diff(list_array(table[name]).offsets.to_numpy()) for name in ("class_ids", "frame_seconds")
    )
    fewest, most, whole = mixing.fewest_sources, mixing.num_sources, mixing.arrangement == "whole"
    any_number = whole or mixing.several_classes or not mixing.distinct_classes
    return {
        "silent": seconds.sound(),
        "without a picture": (picture_counts > 0) | (not mixing.pictures_per_source),
        "of no class": (class_counts > 0) | (not mixing.distinct_classes),
        "of several classes": (class_counts < 2) | any_number,
        f"of fewer than {fewest} classes": (class_counts >= fewest) | (not whole),
        f"of more than {most} classes": (class_counts <= most) | (not whole),
        "not part of a mixture": table["group"].is_valid().to_numpy() | (mixing.arrangement != "released"),
    }


def _only_classes(table: pa.Table) -> np.ndarray:
    """Class of each clip of one class, int64 [clips]; otherwise NO_CLASS."""
    classes = list_array(table["class_ids"])
    begins, counts = classes.offsets.to_numpy()[:-1], np.diff(classes.offsets.to_numpy())
    class_id = np.full(len(table), NO_CLASS, np.int64)
    class_id[counts == 1] = classes.flatten().to_numpy()[begins[counts == 1]]
    return class_id


@dataclass(frozen=True)
class _Seconds:
    """The seconds of all clips, those of one after those of the other: as many as there are, however long the longest
    clip is."""

    begins: np.ndarray
    """Number of each clip's first second, int64 [clips + 1]."""
    level: np.ndarray
    """Level of each whole second, float32 [seconds], full scale 1.

    What is left after the last whole second, often a few milliseconds of codec padding, counts as silent.
    """
    is_loud: np.ndarray
    """Whether each sounds, bool [seconds]."""

    @classmethod
    def of(cls, table: pa.Table, mixing: Mixing) -> _Seconds:
        rms = list_array(table["rms"])
        begins = rms.offsets.to_numpy().astype(np.int64)
        ends = np.arange(1, begins[-1] + 1) - np.repeat(begins[:-1], np.diff(begins))
        is_whole = ends * mixing.sample_rate_hz <= np.repeat(table["num_samples"].to_numpy(), np.diff(begins))
        level = np.where(is_whole, rms.values.to_numpy()[: begins[-1]], np.float32(0))
        return cls(begins, level, level >= 10 ** (mixing.silence_dbfs / 20))

    def sound(self) -> np.ndarray:
        """Whether each clip has a second that sounds, bool [clips]."""
        before = np.concatenate([[0], np.cumsum(self.is_loud)])
        return before[self.begins[1:]] > before[self.begins[:-1]]

    def loudest(self) -> np.ndarray:
        """First of the loudest seconds of each clip, counted from its first, int64 [clips]."""
        number = np.arange(len(self.level))
        filled = np.flatnonzero(np.diff(self.begins))
        loudest = np.zeros(len(self.begins) - 1, np.int64)
        if len(filled):
            begins, counts = self.begins[filled], np.diff(self.begins)[filled]
            is_most = self.level == np.repeat(np.maximum.reduceat(self.level, begins), counts)
            loudest[filled] = np.minimum.reduceat(np.where(is_most, number, len(number)), begins) - begins
        return loudest

    def next_loud(self) -> pa.ListArray:
        """As `ClipPool.next_loud`."""
        counts = np.diff(self.begins) + 1
        offsets = np.concatenate([[0], np.cumsum(counts)])
        place = np.full(offsets[-1], offsets[-1])  # of each entry that is a second that sounds
        loud = np.flatnonzero(self.is_loud)
        loud += np.searchsorted(self.begins, loud, side="right") - 1  # an entry more for each clip before
        place[loud] = loud
        following = np.minimum.accumulate(place[::-1])[::-1]
        is_own = following < np.repeat(offsets[1:], counts)
        values = np.where(is_own, following - np.repeat(offsets[:-1], counts), NEVER)
        return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(values, pa.int32()))


def list_array(column: pa.ChunkedArray) -> pa.ListArray:
    """A column of lists as one array that starts at its first offset."""
    array = one_array(column)
    if len(array) and array.offsets[0].as_py():
        return pa.concat_arrays([array, array.slice(0, 0)])
    return array


def one_array(column: pa.ChunkedArray) -> pa.Array:
    """A column as one array: its own, where it is one already, as Arrow would copy it."""
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks or [pa.array([], column.type)])
