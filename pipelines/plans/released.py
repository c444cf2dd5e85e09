"""Mixtures as they were released: the sources of a FUSS mixture, the stems of a song, cut at one time.

Shape letters: R mixtures, N most sources of a mixture, G released mixtures, M most clips of one.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from itertools import chain, combinations

import numpy as np
import pyarrow.compute as pc

from cocktail.config.splits import Split
from cocktail.types import UsageError
from pipelines.plans.draws import CROP, CROP_ATTEMPTS, MEMBER, NOBODY, Draws, window_order
from pipelines.plans.pool import ClipPool
from pipelines.plans.random_numbers import draw


@dataclass(frozen=True)
class ReleasedMixtures:
    """The released mixtures of a pool in which enough sources of different kinds sound at one time, by name."""

    members: np.ndarray
    """Clips in the order of their roles, int64 [G, M], NOBODY after the last."""
    complete: np.ndarray
    """Whether all that was released of it is usable and in the pool's part of the split, bool [G]."""
    left_out: int
    """Released mixtures that cannot be used."""

    def __len__(self) -> int:
        return len(self.members)


@functools.lru_cache(maxsize=4)
def released_mixtures(pool: ClipPool) -> ReleasedMixtures:
    """Raises UsageError if there is none."""
    clips = list(zip(*(pool.table[name].to_pylist() for name in ("group", "role", "clip_id")), strict=True))
    order = np.array(sorted(range(len(clips)), key=lambda clip: (clips[clip][0], clips[clip][1] or "", clips[clip][2])))
    names, code, counts = np.unique([clips[clip][0] for clip in order], return_inverse=True, return_counts=True)
    begins = np.cumsum(counts) - counts
    members = np.full((len(names), int(counts.max())), NOBODY, np.int64)
    members[code, np.arange(len(order)) - begins[code]] = order
    of_split = pool.manifest.table.filter(pc.field("split") == Split.of(pool.split).name)
    num_released = {item["values"]: item["counts"] for item in of_split["group"].value_counts().to_pylist()}
    complete = counts == np.array([num_released[name] for name in names])
    suits = np.zeros(len(members), bool)
    last = common_last_starts(pool, members)
    for second in range(_num_seconds(pool, last)):
        rows = np.flatnonzero(~suits & ((second - 1) * pool.mixing.sample_rate_hz < last))  # others end before
        sounding = _take(pool, members[rows], _at_second(pool, last[rows], second))
        suits[rows] = (sounding != NOBODY).sum(axis=1) >= pool.mixing.fewest_sources
    if not suits.any():
        raise UsageError(
            f"in no released mixture of {pool.manifest.folder} do {pool.mixing.fewest_sources} sources of different "
            f"classes sound at one time ({pool.in_words()}): lower --mixing.num-sources or --mixing.silence-dbfs, "
            "or give --mixing.no-distinct-classes"
        )
    return ReleasedMixtures(members[suits], complete[suits], int((~suits).sum()))


def draw_released(pool: ClipPool, key: tuple[int, ...], window_shards: int) -> Draws:
    """One pass over the released mixtures: of each, sources of different kinds that sound at one random time.

    Times are drawn evenly; after some at which too few sources sound, whole seconds are tried from a random one on.
    """
    members = released_mixtures(pool).members
    order, _ = window_order(pool.shard[members[:, 0]], key, window_shards)
    members = members[order]
    rows = np.arange(len(members))
    # Who is taken, of those that sound, is decided by a random order.
    shuffle = np.argsort(draw(np.arange(members.size), *key, MEMBER).reshape(members.shape), axis=1, kind="stable")
    members = np.take_along_axis(members, shuffle, axis=1)
    last = common_last_starts(pool, members)
    drawn = [(draw(rows, *key, CROP, attempt) * (last + 1)).astype(np.int64) for attempt in range(CROP_ATTEMPTS)]
    num_seconds = _num_seconds(pool, last)
    turn = (draw(rows, *key, CROP, CROP_ATTEMPTS) * num_seconds).astype(np.int64)
    in_turn = (_at_second(pool, last, (turn + number) % num_seconds) for number in range(num_seconds))
    chosen = np.full((len(members), pool.mixing.num_sources), NOBODY, np.int64)
    starts = np.zeros(len(members), np.int64)
    for candidate in chain(drawn, in_turn):
        open_rows = np.flatnonzero(chosen[:, 0] == NOBODY)
        if not len(open_rows):
            break
        suiting = _take(pool, members[open_rows], candidate[open_rows])
        accepted = (suiting != NOBODY).sum(axis=1) >= pool.mixing.fewest_sources
        chosen[open_rows[accepted]] = suiting[accepted]
        starts[open_rows[accepted]] = candidate[open_rows[accepted]]
    return Draws(chosen, np.repeat(starts[:, None], chosen.shape[1], axis=1))


def whole_mixtures(pool: ClipPool) -> Draws:
    """The released mixtures that have as many sources as asked for, all usable, in the order of their names.

    Cut as `middle_together` does.
    """
    released = released_mixtures(pool)
    counts = (released.members != NOBODY).sum(axis=1)
    fewest, most = pool.mixing.fewest_sources, pool.mixing.num_sources
    members = released.members[released.complete & (counts >= fewest) & (counts <= most)][:, :most]
    padding = np.full((len(members), most - members.shape[1]), NOBODY, np.int64)
    return middle_together(pool, np.concatenate([members, padding], axis=1))


def middle_together(pool: ClipPool, chosen: np.ndarray) -> Draws:
    """Clips [R, N] cut from their common middle, or the first second from which all sound; without one, left out."""
    starts = np.zeros(len(chosen), np.int64)
    settled = np.zeros(len(chosen), bool)
    last = common_last_starts(pool, chosen)
    counts = (chosen != NOBODY).sum(axis=1)
    seconds = (_at_second(pool, last, second) for second in range(_num_seconds(pool, last)))
    for candidate in chain([last // 2], seconds):
        open_rows = np.flatnonzero(~settled)
        if not len(open_rows):
            break
        taken = _take(pool, chosen[open_rows], candidate[open_rows])
        sounding = open_rows[(taken != NOBODY).sum(axis=1) == counts[open_rows]]
        starts[sounding] = candidate[sounding]
        settled[sounding] = True
    return Draws(chosen[settled], np.repeat(starts[settled, None], chosen.shape[1], axis=1))


def common_last_starts(pool: ClipPool, chosen: np.ndarray) -> np.ndarray:
    """Last sample [R] that a crop of all sources of a row can start at."""
    lengths = np.where(chosen == NOBODY, np.iinfo(np.int64).max, pool.num_samples[np.maximum(chosen, 0)])
    return np.maximum(lengths.min(axis=1, initial=np.iinfo(np.int64).max) - pool.mixing.segment_samples, 0)


def _num_seconds(pool: ClipPool, last: np.ndarray) -> int:
    """Whole seconds of the longest row, and one more, for its last sample possible: `last` is `common_last_starts`."""
    return int(last.max(initial=0)) // pool.mixing.sample_rate_hz + 2


def _at_second(pool: ClipPool, last: np.ndarray, second: np.ndarray | int) -> np.ndarray:
    """Starts [R] at a whole second, or at the last sample possible: no other crop holds a second more."""
    return np.minimum(second * pool.mixing.sample_rate_hz, last)


def _take(pool: ClipPool, members: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """The first members [R, N] of different kinds that sound in the crop from `starts` [R] on."""
    clips = np.maximum(members, 0)
    suits = (members != NOBODY) & pool.sounds(clips, starts[:, None])
    for earlier, later in combinations(range(members.shape[1]), 2):
        suits[:, later] &= ~(suits[:, earlier] & pool.alike(clips[:, later], clips[:, earlier]))
    place = np.cumsum(suits, axis=1) - 1
    taken = np.full((len(members), pool.mixing.num_sources), NOBODY, np.int64)
    row, column = np.nonzero(suits & (place < pool.mixing.num_sources))
    taken[row, place[row, column]] = members[row, column]
    return taken
