"""Plans are pure functions with the properties that mixtures need."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cocktail.config import Mixing
from cocktail.types import UsageError
from pipelines.plans import draw, plan_epoch, plan_hash, plan_test
from tests.toy_shards import RATE, make_toy_shards

MIXING = Mixing(sample_rate_hz=RATE, segment_samples=2000, window_shards=2, passes_per_epoch=2)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return make_toy_shards(tmp_path_factory.mktemp("toy"))


def column(plan: pa.Table, name: str) -> np.ndarray:
    return np.array(plan[name].to_pylist())


def test_random_numbers_are_splitmix64():
    # SplitMix64 seeded with 0 gives these, by its published reference code.
    key = 0x1  # any key
    first, again = draw(np.arange(5), key), draw(np.arange(3, 5), key)
    np.testing.assert_array_equal(first[3:], again)
    mask = (1 << 64) - 1

    def finalise(z: int) -> int:
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & mask
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB & mask
        return z ^ (z >> 31)

    assert finalise(0x9E3779B97F4A7C15) == 0xE220A8397B1DCDAF
    golden = 0x9E3779B97F4A7C15
    state = finalise(0 ^ (key + golden) & mask)
    expected = [(finalise((state + (k + 1) * golden) & mask) >> 11) * 2.0**-53 for k in range(5)]
    assert first.tolist() == expected


def test_draws_are_even_and_streams_differ():
    values = draw(np.arange(20_000), 1, 2, 3)
    assert abs(values.mean() - 0.5) < 0.01
    assert abs(np.corrcoef(values, draw(np.arange(20_000), 1, 2, 4))[0, 1]) < 0.03
    assert abs(np.corrcoef(values[1:], values[:-1])[0, 1]) < 0.03


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**31), epoch=st.integers(0, 10**6), sources=st.integers(2, 4))
def test_every_plan_keeps_its_promises(manifest, seed, epoch, sources):
    mixing = replace(MIXING, num_sources=sources)
    plan = plan_epoch(manifest, mixing, split="train", seed=seed, epoch=epoch)
    again = plan_epoch(manifest, mixing, split="train", seed=seed, epoch=epoch)
    assert plan.equals(again)
    clips = dict(zip(manifest.table["clip_id"].to_pylist(), manifest.table.to_pylist(), strict=True))
    leaders = column(plan, "clip_id")[:, 0]
    assert len(plan) == 2 * 40
    for one_pass in (leaders[:40], leaders[40:]):
        assert sorted(one_pass) == sorted(name for name, clip in clips.items() if clip["split"] == "train")
    for row in plan.to_pylist():
        assert len(set(row["class_id"])) == sources
        for n, clip_id in enumerate(row["clip_id"]):
            clip, start = clips[clip_id], row["start"][n]
            assert clip["split"] == "train"
            assert ([row["class_id"][n]], row["shard"][n]) == (clip["class_ids"], clip["shard"])
            assert row["checks"][n] == clip["checks"][start // RATE : -(-(start + 2000) // RATE)]
            assert 0 <= start <= clip["num_samples"] - 2000
            assert 0.5 <= row["gain"][n] <= 1.5
            whole = range(-(-start // RATE), (start + 2000) // RATE)
            assert any(clip["rms"][second] >= 1e-3 for second in whole), "a silent crop"


def test_rows_of_a_window_come_from_few_shards(manifest):
    plan = plan_epoch(manifest, MIXING, split="train", seed=0, epoch=0)
    for first in range(0, 80, 20):
        assert len(set(column(plan, "shard")[first : first + 20].ravel())) == 2


def test_seeds_epochs_and_passes_differ(manifest):
    plans = [
        plan_epoch(manifest, MIXING, split="train", seed=seed, epoch=epoch) for seed, epoch in ((0, 0), (0, 1), (1, 0))
    ]
    assert len({plan_hash(plan) for plan in plans}) == 3
    order = column(plans[0], "clip_id")
    assert (order[:40, 0] != order[40:, 0]).any()


def test_partners_are_drawn_evenly_among_other_classes(manifest):
    counts: dict[str, int] = {}
    for epoch in range(200):
        plan = plan_epoch(manifest, replace(MIXING, window_shards=4), split="train", seed=0, epoch=epoch)
        for name in column(plan, "clip_id")[:, 1]:
            counts[name] = counts.get(name, 0) + 1
    shares = np.array(list(counts.values())) / (200 * 80 / 40)
    assert len(shares) == 40
    assert abs(shares - 1).max() < 0.25


def test_a_mixtures_id_is_its_content(manifest):
    plan = plan_epoch(manifest, MIXING, split="train", seed=0, epoch=0)
    ids = plan["mixture_id"].to_pylist()
    assert len(set(ids)) == len(ids)
    other_gain = plan_epoch(manifest, replace(MIXING, max_gain=1.4), split="train", seed=0, epoch=0)
    assert not set(ids) & set(other_gain["mixture_id"].to_pylist())


def test_the_frozen_list_takes_the_middle_without_gain(manifest):
    plan = plan_test(manifest, MIXING, split="test", seed=1, num_mixtures=10)
    assert len(plan) == 10
    assert (column(plan, "gain") == 1).all()
    assert (column(plan, "start") == 1500).all()
    assert (column(plan, "class_id")[:, 0] != column(plan, "class_id")[:, 1]).all()
    # Six clips of the classes 0, 1, 2, 3, 4, 0 make 14 pairs of different classes.
    longest = plan_test(manifest, MIXING, split="test", seed=1, num_mixtures=14)
    assert longest.slice(0, 10).equals(plan)
    assert len({frozenset(pair) for pair in longest["clip_id"].to_pylist()}) == 14
    with pytest.raises(UsageError, match=r"gives only 14 different mixtures: lower --evaluation\.num-mixtures"):
        plan_test(manifest, MIXING, split="test", seed=1, num_mixtures=15)


def test_a_silent_middle_is_replaced_by_the_loudest_second(manifest):
    plan = plan_test(manifest, replace(MIXING, segment_samples=2000), split="train", seed=1, num_mixtures=40)
    silent_but_for_the_fourth = {f"clip{n:03d}" for n in (9, 19, 29, 39)}
    starts = {
        clip: start
        for row in plan.to_pylist()
        for clip, start in zip(row["clip_id"], row["start"], strict=True)
        if clip in silent_but_for_the_fourth
    }
    assert starts.keys() == silent_but_for_the_fourth
    assert set(starts.values()) == {2500}


def test_a_clip_that_never_sounds_takes_no_part(manifest):
    quiet = replace(MIXING, silence_dbfs=20.0)
    with pytest.raises(UsageError, match="0 clips of 0 classes"):
        plan_epoch(manifest, quiet, split="train", seed=0, epoch=0)


def test_another_sample_rate_is_refused(manifest):
    with pytest.raises(UsageError, match=r"1000 Hz, but mixing.sample_rate_hz is 800"):
        plan_epoch(manifest, replace(MIXING, sample_rate_hz=800), split="train", seed=0, epoch=0)


def test_what_is_left_after_the_last_whole_second_does_not_count_as_sounding(tmp_path):
    manifest = make_toy_shards(tmp_path)
    # 8 ms of a click behind five silent seconds, as codec padding leaves them.
    rows = manifest.table.to_pylist()
    for row in rows:
        if row["clip_id"] in ("clip000", "clip001", "clip002"):
            row |= {"rms": [0.0] * 5 + [0.5], "num_samples": 5 * RATE + 8}
    padded = replace(manifest, table=pa.Table.from_pylist(rows, manifest.table.schema))
    plan = plan_epoch(padded, MIXING, split="train", seed=0, epoch=0)
    assert not {"clip000", "clip001", "clip002"} & set(column(plan, "clip_id").ravel())


def test_too_few_classes_are_an_error_that_counts_them(tmp_path):
    manifest = make_toy_shards(tmp_path, classes=1)
    with pytest.raises(UsageError, match="of 1 classes that sound in its train split"):
        plan_epoch(manifest, MIXING, split="train", seed=0, epoch=0)


def test_a_window_with_too_few_classes_names_the_setting(tmp_path):
    manifest = make_toy_shards(tmp_path, num_shards=5, clips_per_shard=1)
    with pytest.raises(UsageError, match=r"--mixing.window-shards"):
        plan_epoch(manifest, replace(MIXING, window_shards=1), split="train", seed=0, epoch=0)
