"""An epoch of any length is planned in little memory, row by row as it would be at once."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from cocktail.config.mixing import Mixing
from pipelines.plans.plan import EpochPlan, PlannedBatches, plan_epoch
from pipelines.plans.pool import usable_clips
from tests.made.corpora.toy_shards import RATE, make_toy_shards

MIXING = Mixing(sample_rate_hz=RATE, segment_samples=2000, window_shards=2, passes_per_epoch=3)
"""Of 40 clips in 4 shards: 120 mixtures, 20 a window."""


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return make_toy_shards(tmp_path_factory.mktemp("toy"), with_pictures=True)


def plan_of(manifest, **settings) -> EpochPlan:
    return EpochPlan(pool=usable_clips(manifest, replace(MIXING, **settings), "train"), seed=3, epoch=1)


@pytest.mark.parametrize("settings", [{}, {"pictures_per_source": 1, "num_sources": 3, "min_sources": 1}])
def test_rows_made_alone_are_those_of_the_whole_plan(manifest, settings):
    plan = plan_of(manifest, **settings)
    whole = plan_epoch(plan.pool, seed=3, epoch=1)
    assert len(whole) == len(plan) == 120
    for numbers in (np.arange(120), np.array([119]), np.array([0, 39, 40, 79, 80]), np.arange(30, 90)):
        assert plan.rows(numbers).combine_chunks().equals(whole.take(pa.array(numbers)).combine_chunks())
    assert len(plan.rows(np.arange(0))) == 0


def test_shards_and_windows_are_those_that_the_rows_name(manifest):
    plan = plan_of(manifest)
    whole = plan_epoch(plan.pool, seed=3, epoch=1).to_pylist()
    for first in range(0, 120, 20):
        numbers = np.arange(first, first + 20)
        assert plan.shards(numbers) == sorted({shard for row in whole[first : first + 20] for shard in row["shard"]})
        assert len(plan.shards(numbers)) == 2
        assert len(set(plan.windows(numbers).tolist())) == 1
    assert len(set(plan.windows(np.arange(120)).tolist())) == 6


def test_stretches_end_where_windows_do_and_lose_no_batch(manifest):
    batches = PlannedBatches(plan_of(manifest), np.arange(0, 120, 4), 4)  # 30 batches, five a window

    def lengths(shortest: int, longest: int, by_window: bool) -> list[int]:
        parts = list(batches.stretches(shortest, longest, by_window=by_window))
        assert np.concatenate([part.starts for part in parts]).tolist() == batches.starts.tolist()
        return [len(part) for part in parts]

    assert lengths(1, 100, True) == [5] * 6
    assert lengths(8, 100, True) == [10] * 3
    assert lengths(1, 12, False) == [12, 12, 6]
    assert lengths(1, 4, True) == [4, 1, 3, 2, 2, 3, 1, 4, 4, 1, 3, 2]
    assert list(PlannedBatches(batches.plan, batches.starts[:0], 4).stretches(1, 4, by_window=True)) == []


def test_stretches_are_the_same_however_many_batches_are_counted_at_a_time(manifest, monkeypatch):
    batches = PlannedBatches(plan_of(manifest), np.arange(0, 120, 4), 4)
    whole = [part.starts.tolist() for part in batches.stretches(1, 100, by_window=True)]
    for at_once in (1, 5, 7):
        monkeypatch.setattr("pipelines.plans.plan.ROWS_AT_ONCE", at_once)
        assert [part.starts.tolist() for part in batches.stretches(1, 100, by_window=True)] == whole


def test_the_first_stretch_of_a_long_epoch_is_of_the_first_passes_alone(manifest, monkeypatch):
    plan = plan_of(manifest, mixtures_per_epoch=10**8)
    counted: list[int] = []
    windows = EpochPlan.windows
    monkeypatch.setattr(EpochPlan, "windows", lambda self, n: counted.append(len(n)) or windows(self, n))
    stretches = PlannedBatches(plan, np.arange(0, 10**8 - 79, 80), 80).stretches(30, 500, by_window=True)
    assert not counted, "nothing is counted before a stretch is asked for"
    assert len(next(stretches)) >= 30
    assert sum(counted) < 10**4


def test_an_epoch_of_a_hundred_million_mixtures_is_begun_and_ended_in_little_memory(manifest):
    plan = plan_of(manifest, mixtures_per_epoch=10**8)
    batches = PlannedBatches(plan, np.arange(0, 10**8 - 79, 80), 80)
    tracemalloc.start()
    try:
        first = next(batches.rows())
        last = plan.rows(np.arange(10**8 - 80, 10**8))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(first) == len(last) == 80
    assert first["mixture_id"].to_pylist() == plan_of(manifest).rows(np.arange(80))["mixture_id"].to_pylist()
    assert peak < 50e6
