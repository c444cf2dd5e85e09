"""Draws that plans are made of: clips that sound together, and the places where they are cut.

Shape letters: R mixtures, N most sources of a mixture.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa

from cocktail.types import UsageError
from pipelines.plans.pool import ClipPool
from pipelines.plans.random_numbers import draw

NOBODY = -1
CROP_ATTEMPTS = 8
# What a stream of random numbers is for; the last parts of its key.
SHARD_ORDER, CLIP_ORDER, PARTNER, CROP, GAIN, COUNT, BALANCE = range(1, 8)
MEMBER, PICTURE, SQUARE, SHOWN, LENDER, SOUND, OCTAVE = range(8, 15)


@dataclass(frozen=True)
class Draws:
    """Sources of mixtures, as numbers of a pool."""

    chosen: np.ndarray
    """Clips, int64 [R, N], NOBODY after the last source."""
    starts: np.ndarray
    """First sample of each crop, int64 [R, N]."""

    def __len__(self) -> int:
        return len(self.chosen)

    @classmethod
    def none(cls, num_sources: int) -> Draws:
        """No mixture."""
        return cls(np.empty((0, num_sources), np.int64), np.empty((0, num_sources), np.int64))

    def take(self, rows: slice | np.ndarray) -> Draws:
        """Some of the mixtures."""
        return Draws(self.chosen[rows], self.starts[rows])

    def and_then(self, more: Draws) -> Draws:
        """These mixtures, then more."""
        return Draws(np.concatenate([self.chosen, more.chosen]), np.concatenate([self.starts, more.starts]))

    def narrow(self) -> Draws:
        """The same in half of the memory, int32: as long as no clip has 2^31 samples."""
        return Draws(self.chosen.astype(np.int32), self.starts.astype(np.int32))

    def wide(self) -> Draws:
        """The same in int64, in which all is computed."""
        return Draws(self.chosen.astype(np.int64), self.starts.astype(np.int64))

    def unordered(self) -> np.ndarray:
        """Keys of mixtures, int64 [R, 2N], equal for those of the same crops, in whatever order."""
        order = np.argsort(self.chosen, axis=1, kind="stable")
        return np.concatenate([np.take_along_axis(a, order, axis=1) for a in (self.chosen, self.starts)], axis=1)


def draw_remixed(pool: ClipPool, key: tuple[int, ...], window_shards: int) -> Draws:
    """One pass over the pool: each clip leads a mixture, its partners lie in its window of shards; random crops."""
    chosen = _choose(pool, key, window_shards)
    return Draws(chosen, random_crops(pool, chosen, key))


def middle_crops(pool: ClipPool, chosen: np.ndarray) -> Draws:
    """Clips [R, N] cut from the middle, or around the loudest second where the middle is silent."""
    clips = np.maximum(chosen, 0)
    starts = pool.last_starts(clips) // 2
    return Draws(chosen, np.where(pool.sounds(clips, starts), starts, pool.loudest_crops(clips)))


def official_pairs(pool: ClipPool) -> tuple[Draws, dict[str, list[str]]]:
    """Clips with the partners that their data set names, in the order of clip ids, and the clips whose pairs are left
    out, by reason.

    Pairs of one class stay where each source has one class, and a picture by which it is told from the other.

    Raises UsageError if the data set names none.
    """
    if pool.mixing.num_sources != 2:
        raise UsageError(f"official pairs are of two sources, not of {pool.mixing.num_sources}")
    names = pool.table["clip_id"].to_pylist()
    partners = pool.table["partner"].to_pylist()
    number_of = {name: number for number, name in enumerate(names)}
    left_out: dict[str, list[str]] = {"without their partner": [], "of one class": []}
    pairs = []
    for name, partner in sorted(zip(names, partners, strict=True)):
        if partner is None:
            continue
        if partner not in number_of:
            left_out["without their partner"].append(name)
            continue
        pair = number_of[name], number_of[partner]
        if pool.alike(*pair) and (pool.mixing.several_classes or not pool.mixing.pictures_per_source):
            left_out["of one class"].append(name)
        else:
            pairs.append(pair)
    if not pairs:
        raise UsageError(
            f"{pool.manifest.folder} has no official pairs in its {pool.split} split: set --evaluation.pairs drawn "
            "(and --evaluation.num-sources 1 to test single sources alone), or shard it with a list of pairs "
            "(jobs/shard_vggss.py --duet)"
        )
    return middle_crops(pool, np.array(pairs, np.int64)), left_out


def window_order(shard: np.ndarray, key: tuple[int, ...], window_shards: int) -> tuple[np.ndarray, np.ndarray]:
    """Order and window of rows, each in a shard: by windows of shards in random order, shuffled within each."""
    num_shards = int(shard.max()) + 1
    rank = np.empty(num_shards, np.int64)
    rank[np.argsort(draw(np.arange(num_shards), *key, SHARD_ORDER), kind="stable")] = np.arange(num_shards)
    # A last window that is not full joins the one before.
    window = np.minimum(rank[shard] // window_shards, max(num_shards // window_shards, 1) - 1)
    order = np.lexsort((draw(np.arange(len(shard)), *key, CLIP_ORDER), window))
    return order, window[order]


def _choose(pool: ClipPool, key: tuple[int, ...], window_shards: int) -> np.ndarray:
    """Clips [R, N]: each leads one row, partners are unlike it and each other and lie in its window."""
    order, window = window_order(pool.shard, key, window_shards)
    ends = np.searchsorted(window, np.arange(int(window[-1]) + 2))
    add_partners = _add_partners if pool.class_sets is None else _add_partners_of_several_classes
    chosen = []
    for first, last in pairwise(ends):
        leaders = order[first:last]
        rows = np.arange(first, last)
        by_kind = leaders[np.lexsort((leaders, pool.kinds[leaders]))]
        if pool.mixing.balance == "classes":
            leaders = _balanced(pool.kinds, leaders, rows, key)
        chosen.append(add_partners(pool, by_kind, leaders, rows, key))
    together = np.concatenate(chosen)
    most = pool.mixing.clips_per_mixture
    least = min(pool.mixing.fewest_sources, most)
    counts = least + (draw(np.arange(len(together)), *key, COUNT) * (most - least + 1)).astype(np.int64)
    return np.where(np.arange(most) < counts[:, None], together, NOBODY)


def _balanced(kinds: np.ndarray, leaders: np.ndarray, rows: np.ndarray, key: tuple[int, ...]) -> np.ndarray:
    """Leaders, as many as given and as many of each class as of any other, give or take one, each class's clips in
    turn."""
    by_class = leaders[np.argsort(kinds[leaders], kind="stable")]
    classes, begins, counts = np.unique(kinds[by_class], return_index=True, return_counts=True)
    # Row r takes the (r // C)-th clip of the (r % C)-th class, round and round, from a random class on, so that no
    # class is always the one that is left over; then the rows are shuffled.
    first = int(draw(rows[:1], *key, BALANCE, 0)[0] * len(classes))
    turn, place = np.divmod(np.arange(len(leaders)) + first, len(classes))
    taken = by_class[begins[place] + turn % counts[place]]
    return taken[np.argsort(draw(rows, *key, BALANCE), kind="stable")]


def _add_partners(
    pool: ClipPool, by_kind: np.ndarray, leaders: np.ndarray, rows: np.ndarray, key: tuple[int, ...]
) -> np.ndarray:
    """Leaders with partners of other kinds [rows, N], drawn evenly among the clips of a window, or its classes."""
    kinds, begins, counts = np.unique(pool.kinds[by_kind], return_index=True, return_counts=True)
    if len(kinds) < pool.mixing.clips_per_mixture:
        what = "classes" if pool.mixing.distinct_classes else "clips"
        raise UsageError(
            f"a window of {pool.mixing.window_shards} shards holds only {len(kinds)} {what}, "
            f"too few for mixtures of {pool.mixing.num_sources}: raise --mixing.window-shards"
        )
    # What is drawn from: all clips, one class after the other; or the classes themselves.
    by_clip = pool.mixing.balance == "clips"
    sizes = counts if by_clip else np.ones_like(counts)
    firsts = np.concatenate([[0], np.cumsum(sizes)])
    columns = [leaders]
    for n in range(1, pool.mixing.clips_per_mixture):
        taken = np.sort(np.searchsorted(kinds, pool.kinds[np.stack(columns, axis=1)]), axis=1)
        # The position among those of other kinds, then past each taken kind that lies before it.
        position = (draw(rows, *key, PARTNER, n) * (firsts[-1] - sizes[taken].sum(axis=1))).astype(np.int64)
        for kind in taken.T:
            position += np.where(position >= firsts[kind], sizes[kind], 0)
        if not by_clip:
            position = begins[position] + (draw(rows, *key, BALANCE, n) * counts[position]).astype(np.int64)
        columns.append(by_kind[position])
    return np.stack(columns, axis=1)


def _add_partners_of_several_classes(
    pool: ClipPool, by_kind: np.ndarray, leaders: np.ndarray, rows: np.ndarray, key: tuple[int, ...]
) -> np.ndarray:
    """Leaders with partners [rows, N] that share no class, drawn evenly among such clips of a window.

    Where all clips have one class, these are the partners that `_add_partners` draws.
    """
    assert pool.class_sets is not None
    kinds, begins, counts = np.unique(pool.kinds[by_kind], return_index=True, return_counts=True)
    sets = pool.class_sets[kinds]
    taken = pool.class_sets[pool.kinds[leaders]]
    columns = [leaders]
    for n in range(1, pool.mixing.clips_per_mixture):
        free = taken.astype(np.float32) @ sets.T.astype(np.float32) == 0
        # Where the clips of each free kind end in the list of all that are free.
        ends = np.cumsum(np.where(free, counts, 0), axis=1)
        _require_partners(pool, np.stack(columns, axis=1)[ends[:, -1] == 0])
        position = (draw(rows, *key, PARTNER, n) * ends[:, -1]).astype(np.int64)
        kind = (ends <= position[:, None]).sum(axis=1)
        before = ends[np.arange(len(rows)), kind] - counts[kind]
        columns.append(by_kind[begins[kind] + position - before])
        taken = taken | sets[kind]
    return np.stack(columns, axis=1)


def _require_partners(pool: ClipPool, alone: np.ndarray) -> None:
    """Raise UsageError if there are mixtures [R, n] that nothing in their window can join."""
    if not len(alone):
        return
    clips = pool.table.select(["clip_id", "class_ids"]).take(pa.array(alone[0])).to_pylist()
    names = (" + ".join(pool.manifest.classes[class_id] for class_id in clip["class_ids"]) for clip in clips)
    named = " and ".join(f"{clip['clip_id']} ({name})" for clip, name in zip(clips, names, strict=True))
    raise UsageError(
        f"a window of {pool.mixing.window_shards} shards holds no clip that shares no class with {named}: raise "
        "--mixing.window-shards, lower --mixing.num-sources, or give --mixing.no-distinct-classes"
    )


def random_crops(pool: ClipPool, chosen: np.ndarray, key: tuple[int, ...]) -> np.ndarray:
    """The first of some evenly drawn starts whose crop sounds, else the crop around the loudest second."""
    clips = np.maximum(chosen, 0)
    rows = np.arange(len(chosen))
    choices = pool.last_starts(clips) + 1
    starts = pool.loudest_crops(clips)
    settled = chosen == NOBODY
    for attempt in range(CROP_ATTEMPTS):
        uniform = np.stack([draw(rows, *key, CROP, n, attempt) for n in range(chosen.shape[1])], axis=1)
        candidate = (uniform * choices).astype(np.int64)
        accepted = ~settled & pool.sounds(clips, candidate)
        starts = np.where(accepted, candidate, starts)
        settled |= accepted
        if settled.all():
            break
    return starts
