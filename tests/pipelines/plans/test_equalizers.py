"""Random equalisers of training sources: drawn by the plan, a part of the mixture's id, and of no test mixture."""

from dataclasses import replace

import numpy as np
import pytest
import xxhash

from cocktail.config.evaluation import Evaluation
from cocktail.config.mixing import Mixing
from cocktail.types import UsageError
from pipelines.mixtures.batches import read_mixtures
from pipelines.mixtures.equalizer import equalize
from pipelines.mixtures.render import render
from pipelines.plans.equalizers import NUM_OCTAVES
from pipelines.plans.evaluation import make_test_list
from pipelines.plans.plan import plan_epoch, plan_test
from pipelines.plans.pool import usable_clips
from pipelines.plans.random_numbers import draw, fold
from pipelines.shards.reader import ClipSource
from tests.made.corpora.toy_shards import RATE, make_toy_shards

MIXING = Mixing(sample_rate_hz=RATE, segment_samples=2000, num_sources=3, min_sources=2, passes_per_epoch=20)
EQUALIZED = replace(MIXING, equalizer_db=9.0)
SAMPLES = 32767


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return make_toy_shards(tmp_path_factory.mktemp("toy"))


def plan_of(manifest, mixing):
    return plan_epoch(usable_clips(manifest, mixing, "train"), seed=3, epoch=1)


def test_equalisers_change_ids_and_nothing_else_of_a_plan(manifest):
    plain, equalized = plan_of(manifest, MIXING), plan_of(manifest, EQUALIZED)
    assert equalized.drop_columns(["mixture_id", "equalizer"]).equals(plain.drop_columns(["mixture_id"]))
    ids = equalized["mixture_id"].to_pylist()
    assert not set(ids) & set(plain["mixture_id"].to_pylist()) and len(set(ids)) == len(ids)
    assert ids != plan_of(manifest, replace(MIXING, equalizer_db=8.0))["mixture_id"].to_pylist()


def test_an_id_holds_the_bits_of_the_gains_of_each_source_that_is_there(manifest):
    plain, equalized = (plan_of(manifest, mixing).to_pylist() for mixing in (MIXING, EQUALIZED))
    for before, row in zip(plain[:9], equalized[:9], strict=True):
        bits = np.array(row["equalizer"], np.float32).view(np.uint32).ravel().tolist()
        parts = (xxhash.xxh3_64_intdigest(b"equalized"), *bits)
        state = fold(np.array([int(before["mixture_id"], 16)], np.uint64), *parts)
        assert row["mixture_id"] == f"{state[0]:016x}"


def test_gains_are_the_streams_numbers_and_spread_evenly(manifest):
    rows = plan_of(manifest, EQUALIZED)["equalizer"].to_pylist()
    expected = 9 * (2 * draw(np.array([5]), 3, 1, 0, 14, 1, 2)[0] - 1)
    assert rows[5][1][2] == np.float32(expected)
    gains = np.array([source for row in rows for source in row])
    assert gains.shape[1] == NUM_OCTAVES
    assert np.abs(gains).max() <= 9
    assert gains.mean(axis=0) == pytest.approx(0, abs=1)
    assert gains.std(axis=0) == pytest.approx(9 / np.sqrt(3), rel=0.1)


def test_test_mixtures_have_none_however_they_are_arranged(manifest):
    evaluation = Evaluation(num_mixtures=3)
    tested = evaluation.test_mixing(EQUALIZED)
    assert tested == MIXING
    assert Evaluation(arrangement="whole", num_mixtures=3).test_mixing(EQUALIZED).equalizer_db == 0
    for pool in (usable_clips(manifest, mixing, "test") for mixing in (tested, EQUALIZED)):
        assert "equalizer" not in plan_test(pool, evaluation).column_names


def test_mixtures_of_a_validation_split_have_none(manifest):
    validation = Evaluation(split="train", num_mixtures=5)
    equalized, plain = (
        read_mixtures(make_test_list(manifest, mixing, validation), ClipSource.of(manifest), mixing)
        for mixing in (EQUALIZED, MIXING)
    )
    assert equalized.mixture_ids == plain.mixture_ids
    assert (equalized.sources == plain.sources).all()


def test_rendered_sources_are_equalised_ones(manifest):
    plan, plain = (plan_of(manifest, mixing).slice(2, 6) for mixing in (EQUALIZED, MIXING))
    columns, before = (
        render(rows, ClipSource.of(manifest), mixing) for rows, mixing in ((plan, EQUALIZED), (plain, MIXING))
    )
    for b, gains in enumerate(plan["equalizer"].to_pylist()):
        for n, gains_db in enumerate(gains):
            np.testing.assert_array_equal(
                columns["sources"][b, n], equalize(before["sources"][b, n], np.array(gains_db))
            )
            assert (columns["sources"][b, n] != before["sources"][b, n]).any()
        assert not columns["sources"][b, len(gains) :].any()


def test_a_tone_is_raised_by_the_gain_of_its_octave():
    times = np.arange(SAMPLES)
    low, high = (np.sin(2 * np.pi * times / period) for period in (32, 8))  # 4 and 2 octaves below half the rate
    gains_db = np.array([0.0, 0, 6, 0, -6, 0, 0, 0])
    out = equalize(np.rint(4000 * (low + high)).astype(np.int16), gains_db).astype(np.float64)
    heights = [2 * np.dot(out, tone) / SAMPLES for tone in (low, high)]
    assert 20 * np.log10(heights[1] / heights[0]) == pytest.approx(12, abs=0.05)
    assert np.linalg.norm(heights) == pytest.approx(4000 * np.sqrt(2), rel=1e-3)


def test_level_and_silence_stay_and_nothing_clips():
    random = np.random.default_rng(0)
    noise = (random.standard_normal(SAMPLES) * 3000).astype(np.int16)
    gains_db = random.uniform(-12, 12, NUM_OCTAVES)
    assert np.linalg.norm(equalize(noise, gains_db) / 1.0) == pytest.approx(np.linalg.norm(noise / 1.0), rel=1e-4)
    np.testing.assert_array_equal(equalize(noise, np.zeros(NUM_OCTAVES)), noise)
    assert not equalize(np.zeros(SAMPLES, np.int16), gains_db).any()
    square = np.where(np.arange(SAMPLES) % 64 < 32, 32767, -32768).astype(np.int16)
    out = equalize(square, np.array([20.0, 20, 20, 0, -20, -20, -20, -20]))
    assert np.abs(out.astype(int)).max() == 32767
    assert np.mean(np.abs(out.astype(int)) == 32767) < 0.01


@pytest.mark.parametrize("arrangement", ["released", "whole"])
def test_only_remixed_sources_can_be_equalised(arrangement):
    with pytest.raises(UsageError, match="equalizer_db must be from 0 to 40, and 0 where clips are not remixed, not 9"):
        Mixing(equalizer_db=9, arrangement=arrangement)
