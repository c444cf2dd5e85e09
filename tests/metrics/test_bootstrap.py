"""The bootstrap against enumeration, normal theory and the frequency that it promises."""

import itertools

import numpy as np
import pytest

from cocktail.metrics import bootstrap
from cocktail.metrics.bootstrap import crossed_bootstrap, paired_bootstrap


def test_two_mixtures_are_resampled_in_four_ways():
    # Means -1, 0, 0 and 1: a quarter above zero, and the middle half is zero.
    wide = paired_bootstrap(np.array([-1.0, 1.0]))
    assert (wide.mean, wide.low, wide.high) == (0, -1, 1)
    assert wide.share_above_zero == pytest.approx(0.25, abs=0.02)
    narrow = paired_bootstrap(np.array([-1.0, 1.0]), confidence=0.4)
    assert (narrow.low, narrow.high) == (0, 0)


def test_percentiles_are_those_of_all_resamples():
    differences = np.array([0.0, 1.0, 5.0, -2.0])
    means = sorted(np.mean(some) for some in itertools.product(differences, repeat=4))
    # 70%: both ends lie within a run of equal means at least 2% long, beyond what 10,000 resamples can miss.
    for confidence in (0.5, 0.7, 0.9):
        interval = paired_bootstrap(differences, confidence=confidence, num_resamples=100_000)
        for end, share in ((interval.low, (1 - confidence) / 2), (interval.high, (1 + confidence) / 2)):
            around = [np.quantile(means, np.clip(share + slip, 0, 1), method="lower") for slip in (-0.005, 0.005)]
            assert around[0] <= end <= around[1]
    assert interval.mean == 1


def test_a_normal_sample_has_the_normal_interval():
    differences = np.random.default_rng(0).normal(loc=0.3, scale=2, size=1000)
    error = differences.std() / np.sqrt(len(differences))
    for confidence, quantile in ((0.95, 1.95996), (0.8, 1.28155)):
        interval = paired_bootstrap(differences, confidence=confidence)
        # 0.03 of an error is what a percentile of 10,000 resamples is uncertain by.
        assert interval.low == pytest.approx(differences.mean() - quantile * error, abs=0.12 * error)
        assert interval.high == pytest.approx(differences.mean() + quantile * error, abs=0.12 * error)
        assert interval.mean == pytest.approx(differences.mean())


def test_intervals_hold_the_true_mean_as_often_as_they_promise():
    samples = np.random.default_rng(1).normal(loc=0.7, size=(400, 60))
    intervals = [
        paired_bootstrap(sample, confidence=0.9, num_resamples=500, seed=seed) for seed, sample in enumerate(samples)
    ]
    share = np.mean([interval.low <= 0.7 <= interval.high for interval in intervals])
    assert share == pytest.approx(0.9, abs=0.05)


def test_the_interval_is_the_same_every_time_and_in_pieces_of_any_size(monkeypatch):
    differences = np.random.default_rng(2).normal(size=50)
    interval = paired_bootstrap(differences, num_resamples=1000)
    assert paired_bootstrap(differences, num_resamples=1000) == interval
    assert paired_bootstrap(differences, num_resamples=1000, seed=1) != interval
    monkeypatch.setattr(bootstrap, "_DRAWS_AT_ONCE", 170)
    assert paired_bootstrap(differences, num_resamples=1000) == interval


def test_equal_systems_differ_by_nothing():
    assert paired_bootstrap(np.zeros(10)) == (0, 0, 0, 0)


def test_what_has_no_interval_is_said():
    good = np.array([1.0, 2.0])
    with pytest.raises(ValueError, match="two or more mixtures"):
        paired_bootstrap(good[:1])
    with pytest.raises(ValueError, match="not finite"):
        paired_bootstrap(np.array([1.0, np.inf]))
    with pytest.raises(ValueError, match="confidence is 95"):
        paired_bootstrap(good, confidence=95)
    with pytest.raises(ValueError, match="0 resamples"):
        paired_bootstrap(good, num_resamples=0)


def test_one_seed_has_the_interval_of_its_mixtures():
    differences = np.random.default_rng(0).normal(1, 2, 50)
    assert crossed_bootstrap(differences[None]) == paired_bootstrap(differences)


def test_seeds_are_drawn_again_as_mixtures_are():
    mixtures, seeds = np.random.default_rng(0).normal(0, 1, 100), np.array([-1.0, 0.0, 1.0])
    interval = crossed_bootstrap(1 + seeds[:, None] + mixtures - mixtures.mean())
    assert interval.mean == pytest.approx(1)
    # The variances add: of a mean of three seeds (each 2/3), and of a hundred mixtures.
    deviation = np.sqrt(2 / 3 / 3 + mixtures.var() / 100)
    resamples_within = (interval.high - interval.low) / (2 * 1.96 * deviation)
    assert resamples_within == pytest.approx(1, abs=0.1)
    only_seeds = crossed_bootstrap(np.repeat([[0.0], [1.0]], 5, axis=1))
    assert only_seeds == (0.5, 0.0, 1.0, pytest.approx(0.75, abs=0.02))


def test_seeds_without_rows_of_mixtures_are_refused():
    for shape in ((5,), (0, 5), (2, 1), (1, 1)):
        with pytest.raises(ValueError, match="differences are"):
            crossed_bootstrap(np.zeros(shape))
    with pytest.raises(ValueError, match="not finite"):
        crossed_bootstrap(np.full((2, 3), np.nan))
