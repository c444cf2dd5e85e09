"""Plans of mixtures: one row a mixture, that says which bytes to read and how to mix them.

`EpochPlan` and `plan_test` are pure functions of a pool of clips, a seed and an epoch; docs/mixtures.md derives a row
by hand.

Shape letters: R mixtures, N most sources of a mixture, P pictures of a source.
"""

from __future__ import annotations

import functools
import heapq
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import pyarrow as pa

from cocktail.config.evaluation import Evaluation
from cocktail.types import UsageError
from pipelines.plans.annotated import annotated_pictures
from pipelines.plans.class_pairs import draw_class_pairs, pairs_of_classes
from pipelines.plans.draws import (
    GAIN,
    PICTURE,
    SQUARE,
    Draws,
    draw_remixed,
    middle_crops,
    official_pairs,
    window_order,
)
from pipelines.plans.equalizers import with_equalizers_drawn
from pipelines.plans.object_boxes import clips_with_boxes, with_parts_shown
from pipelines.plans.pool import ClipPool, of_classes, usable_clips
from pipelines.plans.random_numbers import draw
from pipelines.plans.released import draw_released, middle_together, released_mixtures, whole_mixtures
from pipelines.plans.rows import plan_rows
from pipelines.plans.sight import nearest_pictures, with_shown_drawn

ROWS_AT_ONCE = 8192
"""Rows of an epoch that are made together where many are read one after the other."""

IDLE_MIXTURES = 4000
"""Test mixtures drawn without a new one, after which there are taken to be no more; and no fewer than 20 passes."""


def mixtures_per_epoch(pool: ClipPool) -> int:
    """Rows of each epoch's plan."""
    return pool.mixing.mixtures_per_epoch or pool.mixing.passes_per_epoch * _pass_length(pool)


def _pass_length(pool: ClipPool) -> int:
    """Rows of a pass over the pool: a row a clip, or a released mixture."""
    return len(released_mixtures(pool)) if pool.mixing.arrangement == "released" else len(pool)


def mixtures_in_words(pool: ClipPool, evaluation: Evaluation | None = None) -> str:
    """A line that counts what mixtures are drawn from and what is left out; of test mixtures if settings are given."""
    pool = pool if evaluation is None else of_classes(pool, evaluation.classes)
    text = pool.in_words()
    if pool.mixing.picture_part == "box":
        text += f"; pictures cut to boxes, of {clips_with_boxes(pool)} clips, and whole without one"
    if pool.mixing.arrangement == "released":
        released = released_mixtures(pool)
        text += f"; {len(released)} released mixtures"
        text += f", {released.left_out} cannot be used" if released.left_out else ""
    if evaluation is None:
        return text
    if evaluation.num_sources is None:
        return text + _test_in_words(pool, evaluation)
    for each in _by_number(pool, evaluation):
        number = each.mixing.num_sources
        text += f"; of {number} source{'s' * (number > 1)}: {mixtures_in_words(each)}{_test_in_words(each, evaluation)}"
    return text


def _test_in_words(pool: ClipPool, evaluation: Evaluation) -> str:
    """A text that counts test mixtures of a pool's number of sources, where they can be, and what is left out."""
    if evaluation.whole_groups and pool.mixing.arrangement == "released":
        return f", {len(whole_mixtures(pool))} of them whole and of as many sources as asked for"
    text, left_out = "", dict[str, list[str]]()
    pairs = _pairs(pool, evaluation)
    if pairs == "official":
        draws, left_out = official_pairs(pool)
        text = f"; {len(draws)} official pairs"
    elif pairs == "classes":
        text = f"; {len(pairs_of_classes(pool))} pairs of classes, {evaluation.crops_per_pair} crops of each"
    elif evaluation.crop == "annotated":
        draws, _, left_out = annotated_pictures(pool)
        text = f"; {len(draws)} annotated pictures of {len(np.unique(draws.chosen))} clips"
    return text + "".join(f", {len(clips)} {why} (as {clips[0]})" for why, clips in left_out.items() if clips)


@dataclass(frozen=True, kw_only=True, eq=False)
class EpochPlan:
    """The mixtures of an epoch, in the order in which they are trained, made when they are asked for.

    A pass over the pool gives each clip, or released mixture, one mixture to lead (or each class as many as any
    other); partners are drawn evenly among what else there is in the same window of shards. Crops, gains and the
    squares cut out of pictures are random; no crop is silent. What is kept is the draws of a few passes, some dozens
    of bytes a clip, however long the epoch. What makes rows raises UsageError where the data cannot give such mixtures.
    """

    pool: ClipPool
    seed: int
    epoch: int

    def __len__(self) -> int:
        return mixtures_per_epoch(self.pool)

    def begun(self) -> EpochPlan:
        """The same, with its first pass drawn, which takes a second or less."""
        _draw_pass(self.pool, (self.seed, self.epoch, 0))
        return self

    def rows(self, numbers: np.ndarray) -> pa.Table:
        """Rows of the plan by their numbers, int64 [R], ascending."""
        if not len(numbers):
            return self.rows(np.zeros(1, np.int64)).slice(0, 0)
        return pa.concat_tables(_rows_of_pass(self.pool, key, places) for key, places in self._by_pass(numbers))

    def all_rows(self) -> Iterator[pa.Table]:
        """All rows in order, some thousands a table."""
        for first in range(0, len(self), ROWS_AT_ONCE):
            yield self.rows(np.arange(first, min(first + ROWS_AT_ONCE, len(self))))

    def shards(self, numbers: np.ndarray) -> list[str]:
        """Names of the shards that hold the clips of some rows, sorted; numbers as in `rows`."""
        chosen = [_draw_pass(self.pool, key).chosen[places].ravel() for key, places in self._by_pass(numbers)]
        clips = np.concatenate(chosen)
        return [self.pool.shard_names[shard] for shard in np.unique(self.pool.shard[clips[clips >= 0]])]

    def windows(self, numbers: np.ndarray) -> np.ndarray:
        """Window of shards that each row is drawn from, int64 [R], ascending through the epoch; numbers as in `rows`.

        Test mixtures aside, no clip of a row lies outside its window but those of a released mixture.
        """
        most = len(self.pool.shard_names)  # windows of a pass
        parts = [_windows_of_pass(self.pool, key)[places] + key[2] * most for key, places in self._by_pass(numbers)]
        return np.concatenate(parts) if parts else np.empty(0, np.int64)

    def _by_pass(self, numbers: np.ndarray) -> Iterator[tuple[tuple[int, int, int], np.ndarray]]:
        """Key of each pass that rows are in, and their places in it."""
        assert not len(numbers) or 0 <= numbers[0] <= numbers[-1] < len(self), "rows must be of the epoch"
        passes, places = np.divmod(numbers, _pass_length(self.pool))
        present, firsts = np.unique(passes, return_index=True)
        for number, (first, end) in zip(present.tolist(), pairwise([*firsts, len(numbers)]), strict=True):
            yield (self.seed, self.epoch, number), places[first:end]


def plan_epoch(pool: ClipPool, *, seed: int, epoch: int) -> pa.Table:
    """All rows of an `EpochPlan` in one table, for epochs that are not long."""
    return pa.concat_tables(EpochPlan(pool=pool, seed=seed, epoch=epoch).all_rows()).combine_chunks()


@dataclass(frozen=True)
class PlannedBatches:
    """The batches of an epoch that a worker renders."""

    plan: EpochPlan
    starts: np.ndarray
    """Number of the first row of each, int64, ascending."""
    share: int
    """Rows of each."""

    def __len__(self) -> int:
        return len(self.starts)

    def rows(self) -> Iterator[pa.Table]:
        """Rows of each batch, in order."""
        at_once = max(ROWS_AT_ONCE // max(self.share, 1), 1)
        for first in range(0, len(self), at_once):
            starts = self.starts[first : first + at_once]
            together = self.plan.rows((starts[:, None] + np.arange(self.share)).ravel())
            yield from (together.slice(n * self.share, self.share) for n in range(len(starts)))

    def shards(self) -> Iterator[list[str]]:
        """Names of the shards that each batch reads, in order."""
        return (self.plan.shards(np.arange(start, start + self.share)) for start in self.starts.tolist())

    def stretches(self, shortest: int, longest: int, *, by_window: bool) -> Iterator[PlannedBatches]:
        """These batches in stretches of some lengths, each made when it is asked for: `longest` each, or, if so wanted,
        a window of shards or several each."""
        begin = 0
        for end in heapq.merge(range(0, len(self), longest), self._window_ends() if by_window else ()):
            if end - begin >= shortest:
                yield replace(self, starts=self.starts[begin:end])
                begin = end
        if begin < len(self):
            yield replace(self, starts=self.starts[begin:])

    def _window_ends(self) -> Iterator[int]:
        """Places of batches that begin another window than the one before them, some thousands counted at a time."""
        for first in range(0, len(self), ROWS_AT_ONCE):
            windows = self.plan.windows(self.starts[first : first + ROWS_AT_ONCE + 1])
            yield from (np.flatnonzero(np.diff(windows)) + first + 1).tolist()


@functools.lru_cache(maxsize=4)
def _draw_pass(pool: ClipPool, key: tuple[int, int, int]) -> Draws:
    """The mixtures of a pass (seed, epoch, pass)."""
    draw_mixtures = draw_released if pool.mixing.arrangement == "released" else draw_remixed
    return draw_mixtures(pool, key, pool.mixing.window_shards).narrow()


@functools.lru_cache(maxsize=4)
def _windows_of_pass(pool: ClipPool, key: tuple[int, int, int]) -> np.ndarray:
    """Window of each row of a pass, int64 [R]."""
    released = pool.mixing.arrangement == "released"
    shard = pool.shard[released_mixtures(pool).members[:, 0]] if released else pool.shard
    return window_order(shard, key, pool.mixing.window_shards)[1]


def _rows_of_pass(pool: ClipPool, key: tuple[int, int, int], places: np.ndarray) -> pa.Table:
    """Rows of a pass, by their places in it, int64 [R]."""
    mixing = pool.mixing
    draws = _draw_pass(pool, key).take(places).wide()
    shape = draws.chosen.shape
    gains = np.ones(shape)
    if mixing.arrangement == "remixed":
        uniform = np.stack([draw(places, *key, GAIN, n) for n in range(shape[1])], axis=1)
        gains = mixing.min_gain + (mixing.max_gain - mixing.min_gain) * uniform
    moments = _uniform(places, shape[1], mixing.pictures_per_source, (*key, PICTURE))
    squares = _uniform(places, shape[1], 3 if mixing.pictures_per_source else 0, (*key, SQUARE))
    pictures = nearest_pictures(pool, draws, moments)
    rows = with_parts_shown(plan_rows(pool, draws, gains, pictures, squares), pool, draws, pictures)
    rows = with_equalizers_drawn(rows, mixing, places, key)
    return with_shown_drawn(rows, mixing, places, key)


def plan_test(pool: ClipPool, evaluation: Evaluation) -> pa.Table:
    """A list of test mixtures as the settings describe it: without gain, whole pictures.

    With `evaluation.num_sources`, a list for each number, one after the other; the pool's mixing is then that of
    `evaluation.test_mixing`. A combination of clips with its crops occurs once in a list. `evaluation.num_mixtures` is
    the length of each list that is drawn. Of a list that can be counted out (single sources, official pairs, whole
    groups and clips) it is the most, so that the 5,158 clips of VGG-SS are tested on as single sources wherever more
    pairs are drawn; annotated pictures, of which one video has hundreds, are then taken at even distances. Raises
    UsageError as `EpochPlan` does, if fewer mixtures can be drawn than are wanted, or a list would be empty.
    """
    pool = of_classes(pool, evaluation.classes)
    if evaluation.num_sources is None:
        return _plan_number(pool, evaluation)
    lists = [_plan_number(each, evaluation) for each in _by_number(pool, evaluation)]
    return pa.concat_tables(lists).combine_chunks()


def _by_number(pool: ClipPool, evaluation: Evaluation) -> list[ClipPool]:
    """The clips that mixtures of each number of sources can be made of."""
    assert pool.mixing == evaluation.test_mixing(pool.mixing), "the pool must be of evaluation.test_mixing"
    mixings = [replace(pool.mixing, num_sources=n, min_sources=None) for n in evaluation.num_sources or ()]
    return [usable_clips(pool.manifest, mixing, pool.split) for mixing in mixings]


def _pairs(pool: ClipPool, evaluation: Evaluation) -> str:
    """The origin of a pool's test mixtures, as `evaluation.pairs`; of several numbers of sources only two are pairs."""
    return evaluation.pairs if evaluation.num_sources is None or pool.mixing.num_sources == 2 else "drawn"


def _plan_number(pool: ClipPool, evaluation: Evaluation) -> pa.Table:
    if evaluation.crop == "annotated":
        draws, pictures, _ = annotated_pictures(pool)
        count = min(len(draws), evaluation.num_mixtures or len(draws))
        even = np.arange(count) * len(draws) // max(count, 1)
        draws, pictures = draws.take(even), pictures[even]
    else:
        draws = _test_draws(pool, evaluation)
        moments = np.full((*draws.chosen.shape, pool.mixing.pictures_per_source), 0.5)
        pictures = nearest_pictures(pool, draws, moments) if len(draws) else np.empty(moments.shape, np.int64)
    if not len(draws):
        raise UsageError(
            f"the {pool.split} split of {pool.manifest.folder} gives no test mixture "
            f"({mixtures_in_words(pool)}{_test_in_words(pool, evaluation)}): choose another --evaluation.split, or "
            "another rule for what is tested"
        )
    rows = plan_rows(pool, draws, np.ones(draws.chosen.shape), pictures, None)
    rows = with_parts_shown(rows, pool, draws, pictures)
    return with_shown_drawn(rows, pool.mixing, np.arange(len(rows)), (evaluation.seed, 0, pool.mixing.num_sources))


def _uniform(places: np.ndarray, num_sources: int, count: int, key: tuple[int, ...]) -> np.ndarray:
    """Random numbers [R, N, count] of the rows at some places of a pass."""
    shape = (len(places), num_sources, count)
    columns = [draw(places, *key, n, k) for n in range(num_sources) for k in range(count)]
    return np.stack(columns, axis=1).reshape(shape) if columns else np.empty(shape)


def _test_draws(pool: ClipPool, evaluation: Evaluation) -> Draws:
    """Draws of the test mixtures as `plan_test` says; none if the data give none."""
    wanted = evaluation.num_mixtures
    if evaluation.whole_groups and pool.mixing.arrangement != "released":
        raise UsageError("--evaluation.whole-groups is for released mixtures: add --mixing.arrangement released")
    if evaluation.pairs != "drawn" and pool.mixing.arrangement != "remixed":
        raise UsageError(f"{evaluation.pairs} pairs are of clips to be mixed: leave --mixing.arrangement at remixed")
    pairs = _pairs(pool, evaluation)
    if pairs == "official":
        return official_pairs(pool)[0].take(slice(wanted))
    if pairs == "classes":
        return draw_class_pairs(pool, evaluation.crops_per_pair, evaluation.seed).take(slice(wanted))
    if evaluation.whole_groups:
        return whole_mixtures(pool).take(slice(wanted))
    if pool.mixing.clips_per_mixture == 1 and evaluation.crop == "middle":
        clips = sorted(range(len(pool)), key=pool.table["clip_id"].to_pylist().__getitem__)
        return middle_crops(pool, np.array(clips, np.int64)[:, None]).take(slice(wanted))
    if wanted is None:
        raise UsageError("drawn test mixtures cannot be counted: set --evaluation.num-mixtures")
    draws = _drawn(pool, evaluation, wanted)
    if 0 < len(draws) < wanted:
        raise UsageError(
            f"the {pool.split} split of {pool.manifest.folder} gives only {len(draws)} different mixtures "
            f"({mixtures_in_words(pool)}): lower --evaluation.num-mixtures, which is {wanted}"
        )
    return draws


def _drawn(pool: ClipPool, evaluation: Evaluation, wanted: int) -> Draws:
    """Draws of as many different mixtures as wanted, from as many passes as it takes; fewer if there are no more."""
    all_shards = int(pool.shard.max()) + 1
    drawn = Draws.none(pool.mixing.clips_per_mixture)
    number = idle = 0
    while len(drawn) < wanted and idle < max(20, IDLE_MIXTURES // len(pool)):
        key = (evaluation.seed, 0, number)
        if pool.mixing.arrangement == "released":
            draws = draw_released(pool, key, all_shards)
            draws = middle_together(pool, draws.chosen) if evaluation.crop == "middle" else draws
        else:
            draws = draw_remixed(pool, key, all_shards)
            draws = middle_crops(pool, draws.chosen) if evaluation.crop == "middle" else draws
        more = drawn.and_then(draws)
        # The order of its sources makes no other mixture.
        _, firsts = np.unique(more.unordered(), axis=0, return_index=True)
        idle = idle + 1 if len(firsts) == len(drawn) else 0
        drawn = more.take(np.sort(firsts))
        number += 1
    return drawn.take(slice(wanted))
