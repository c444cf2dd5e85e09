"""Intervals against Student's, brute force, and the frequency that they promise."""

import numpy as np
import pytest
from scipy.stats import norm
from scipy.stats import t as student

from cocktail.metrics.intervals import Interval, Recordings, ratio_values
from tests.made.results.recorded_scores import drawn, frames, scores

ONE_EACH = Recordings([[f"r{m}"] for m in range(20)])


def coverage(recordings: Recordings, samples: np.ndarray) -> float:
    """The share of samples [count, ...] about 0 whose interval holds 0."""
    found = [recordings.interval(sample) for sample in samples]
    return float(np.mean([interval is not None and interval.low <= 0 <= interval.high for interval in found]))


def half_width(interval: Interval | None) -> float:
    assert interval is not None
    assert interval.high - interval.mean == pytest.approx(interval.mean - interval.low)
    return interval.high - interval.mean


def test_mixtures_that_share_no_recording_have_students_interval():
    values = np.random.default_rng(0).normal(3, 2, 20)
    pairs = Recordings([[f"a{m}", f"b{m}"] for m in range(20)])
    for confidence in (0.8, 0.95):
        error = values.std(ddof=1) / np.sqrt(20) * student.ppf((1 + confidence) / 2, 19)
        for recordings in (ONE_EACH, pairs):
            interval = recordings.interval(values, confidence)
            assert half_width(interval) == pytest.approx(error)
            assert interval is not None and interval.mean == pytest.approx(values.mean())


def test_so_do_mixtures_of_several_numbers_of_sources():
    generator = np.random.default_rng(8)
    for num_sources in ([2, 1, 1, 1], *generator.integers(1, 5, (20, 30)).tolist()):
        recordings = Recordings([[f"{m}/{n}" for n in range(number)] for m, number in enumerate(num_sources)])
        M = len(num_sources)
        values = generator.normal(size=M)
        error = values.std(ddof=1) / np.sqrt(M) * student.ppf(0.975, M - 1)
        assert half_width(recordings.interval(values)) == pytest.approx(error)


def test_recordings_of_as_many_mixtures_each_have_the_variance_of_their_means():
    values = np.repeat([1.0, 4.0, 2.0, 9.0, 3.0], 6) + np.tile([0.5, -0.5], 15)
    recordings = Recordings([[name] for name in "abcde" for _ in range(6)])
    variance = np.var([1, 4, 2, 9, 3], ddof=1) / 5
    # The part that there would be without recordings is known with 29 degrees of freedom, the rest with 4.
    independent = values.var(ddof=1) / 30
    quantile = (independent * student.ppf(0.975, 29) + (variance - independent) * student.ppf(0.975, 4)) / variance
    assert half_width(recordings.interval(values)) == pytest.approx(np.sqrt(variance) * quantile)


def test_the_variance_of_many_pairs_is_the_sum_over_pairs_of_mixtures_that_share_a_recording():
    generator = np.random.default_rng(1)
    of_mixtures = drawn(generator, 400, 1000, 2)
    values = scores(generator, of_mixtures, 0.5, 1)[0]
    deviations = values - values.mean()
    alike = np.array([[not set(a).isdisjoint(b) for b in of_mixtures] for a in of_mixtures])
    error = np.sqrt(deviations @ alike @ deviations) / 1000
    # What is taken out of the sum is its bias, about 2 of 400; more than 100 degrees of freedom are nearly normal.
    assert half_width(Recordings(of_mixtures).interval(values)) == pytest.approx(1.96 * error, rel=0.03)


def test_an_interval_is_no_narrower_than_that_of_independent_mixtures():
    values = np.tile([1.0, -1.0, 2.0, -2.0], 5)  # within each recording they cancel out
    of_four = Recordings([[f"r{m // 4}"] for m in range(20)])
    assert half_width(of_four.interval(values)) == pytest.approx(half_width(ONE_EACH.interval(values)))


@pytest.mark.parametrize("share", [0, 0.25, 0.5, 1])
@pytest.mark.parametrize(
    "design",
    [(22, 40, 2), (22, 100, 2), (90, 100, 2), (22, 100, 3), (90, 100, 3), (20, 20, 1), 8, 20],
    ids=lambda design: f"{design} videos" if isinstance(design, int) else "{} clips, {} mixtures of {}".format(*design),
)
def test_intervals_hold_the_true_mean_as_often_as_they_promise(design, share):
    generator = np.random.default_rng(2)
    of_mixtures = frames(generator, design) if isinstance(design, int) else drawn(generator, *design)
    samples = scores(generator, of_mixtures, share, 1000)
    # Of a thousand draws, one and a half percent is two standard errors.
    assert 0.93 <= coverage(Recordings(of_mixtures), samples) <= 0.985
    if share == 1 and len(of_mixtures) > 20:
        alone = Recordings([[str(m)] for m in range(len(of_mixtures))])
        assert coverage(alone, samples[:200]) < 0.85


def test_intervals_over_seeds_hold_what_all_seeds_and_recordings_would_give():
    generator = np.random.default_rng(3)
    recordings = drawn(generator, 22, 100, 2)
    for num_seeds in (2, 3, 5):
        samples = scores(generator, recordings, 0.5, 400, num_seeds)
        assert coverage(Recordings(recordings), samples) >= 0.93
        assert coverage(Recordings(recordings), samples.mean(axis=1)) < 0.88


def test_one_seed_has_the_interval_of_its_scores_and_more_seeds_are_crossed_with_recordings():
    values = np.random.default_rng(4).normal(size=20)
    of_one = ONE_EACH.interval(values[None])
    assert of_one == ONE_EACH.interval(values)
    assert half_width(ONE_EACH.interval(np.stack([values, values]))) == pytest.approx(half_width(of_one))
    # Mixtures that say nothing, and seeds of 0 and 1: Student's interval of two values.
    apart = ONE_EACH.interval(np.repeat([[0.0], [1.0]], 20, axis=1))
    assert half_width(apart) == pytest.approx(0.5 * student.ppf(0.975, 1))


def test_what_seeds_cause_in_each_mixture_alone_is_not_counted_twice():
    generator = np.random.default_rng(5)
    recordings = Recordings([[str(m)] for m in range(200)])
    widths = [half_width(recordings.interval(generator.normal(size=(5, 200)))) for _ in range(50)]
    # All is chance of 1000 values: their error is 1 / sqrt(1000); counted twice, it would be 1.41 times as large.
    assert np.mean(widths) / (1.96 / np.sqrt(1000)) < 1.25


def test_the_order_of_mixtures_and_the_names_of_recordings_do_not_matter():
    generator = np.random.default_rng(6)
    of_mixtures = drawn(generator, 12, 30, 3)
    values = scores(generator, of_mixtures, 0.5, 1)[0]
    order = generator.permutation(30)
    other = [[f"{name}.wav" for name in of_mixtures[m][::-1]] for m in order]
    assert Recordings(other).interval(values[order]) == pytest.approx(Recordings(of_mixtures).interval(values))


def test_scores_that_are_all_alike_have_an_interval_of_no_width():
    assert ONE_EACH.interval(np.full(20, 0.5)) == (0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    ("of_mixtures", "number", "why"),
    [
        ([["a"], ["a"], ["b"], ["b"]], 2, "too few recordings"),
        ([["a", "b"]] * 4, 2, "too few recordings"),
        ([["a", "b"], ["c", "d"], ["c", "d"]], 4, "too few recordings"),  # a and b cannot be told apart
        ([["a"], ["b"], [None]], None, "recordings not known"),
        ([["a"]] * 100 + [["b"], ["c"], ["d"], ["e"]], 5, "few recordings dominate"),
        ([["a"]] * 50 + [["b"]] * 50 + [["c"], ["d"], ["e"], ["f"]], 6, "few recordings dominate"),
        ([["a", "b", "c"]] * 50 + [["d"], ["e"], ["f"]], 6, "few recordings dominate"),  # a, b and c are as one
        ([], 0, "no mixtures"),
    ],
)
def test_what_says_nothing_of_other_recordings_has_no_interval_and_says_why(of_mixtures, number, why):
    recordings = Recordings(of_mixtures)
    assert recordings.interval(np.arange(float(len(of_mixtures)))) is None
    assert (recordings.number, recordings.why_none) == (number, why)


def test_intervals_are_never_absurdly_wide():
    """Whatever few mixtures share: estimates of degrees of freedom below one made intervals of 1e100."""
    generator = np.random.default_rng(9)
    num_found = 0
    for _ in range(700):
        num_mixtures, num_recordings, skew = (
            generator.integers(4, 41),
            generator.integers(3, 10),
            generator.choice([1, 3]),
        )
        of_mixtures = [
            [f"{int(num_recordings * generator.random() ** skew)}" for _ in range(generator.integers(1, 4))]
            for _ in range(num_mixtures)
        ]
        values = generator.normal(size=num_mixtures)
        interval = Recordings(of_mixtures).interval(values)
        if interval is not None:
            num_found += 1
            # Student's quantile is 12.7 at most, and the error of a mean hardly above the deviation of one value.
            assert half_width(interval) < 30 * values.std(ddof=1)
    assert num_found > 500


def test_an_unshared_share_has_wilsons_interval_with_students_quantile():
    values = np.repeat([1.0, 0.0], [3, 17])
    quantile, number = student.ppf(0.975, 19), 19  # p (1 - p) / (p (1 - p) / 19)
    low, high = (
        (0.15 + quantile**2 / 38 + sign * quantile * np.sqrt(0.15 * 0.85 / number + quantile**2 / (4 * number**2)))
        / (1 + quantile**2 / number)
        for sign in (-1, 1)
    )
    assert ONE_EACH.interval_of_share(values) == pytest.approx((0.15, low, high))
    assert ONE_EACH.interval_of_share(1 - values) == pytest.approx((0.85, 1 - high, 1 - low))


def test_a_share_of_none_or_all_goes_as_far_as_so_few_recordings_let_it():
    quantile = student.ppf(0.975, 19)
    of_five = Recordings([[f"r{m // 4}"] for m in range(20)])
    for recordings, number in ((ONE_EACH, 20), (of_five, 5)):
        most = quantile**2 / (number + quantile**2)
        assert recordings.interval_of_share(np.zeros(20)) == pytest.approx((0, 0, most))
        assert recordings.interval_of_share(np.ones((3, 20))) == pytest.approx((1, 1 - most, 1))


@pytest.mark.parametrize("probability", [0.02, 0.05, 0.1, 0.98])
@pytest.mark.parametrize("share", [0, 0.5, 1])
def test_intervals_of_rare_success_hold_the_true_share_as_often_as_they_promise(probability, share):
    generator = np.random.default_rng(10)
    of_mixtures = drawn(generator, 36, 40, 2)
    recordings = Recordings(of_mixtures)
    reached = scores(generator, of_mixtures, share, 600) < norm.ppf(probability)
    found = [recordings.interval_of_share(sample) for sample in reached]
    held = np.mean([interval is not None and interval.low <= probability <= interval.high for interval in found])
    assert held >= 0.93
    if probability in (0.02, 0.98):
        assert coverage(recordings, reached - probability) < 0.65  # of intervals about the mean


def test_a_difference_of_shares_has_the_interval_of_agresti_and_min():
    # Of 20, 4 are 1 in the first alone, 1 in the second alone; half a mixture is added to each of four kinds.
    values = np.repeat([1.0, -1.0, 0.0], [4, 1, 15])
    number = 19.0  # the variance of one is 5 / 20 - (3 / 20)^2, that of the mean a 19th of it
    only_first, only_second, total = 4 / 20 * number + 0.5, 1 / 20 * number + 0.5, number + 2
    middle = (only_first - only_second) / total
    squares = only_first + only_second - (only_first - only_second) ** 2 / total
    half = student.ppf(0.975, 19) * np.sqrt(squares) / total
    assert ONE_EACH.interval_of_difference(values) == pytest.approx((0.15, middle - half, middle + half))
    alike = student.ppf(0.975, 19) / 22
    assert ONE_EACH.interval_of_difference(np.zeros((2, 20))) == pytest.approx((0, -alike, alike))


@pytest.mark.parametrize("share", [0, 0.5, 1])
def test_intervals_of_differences_of_rare_success_hold_the_true_one(share):
    generator = np.random.default_rng(11)
    of_mixtures = drawn(generator, 36, 40, 2)
    recordings = Recordings(of_mixtures)
    first, second = (scores(generator, of_mixtures, share, 500) < norm.ppf(probability) for probability in (0.05, 0.02))
    differences = first.astype(float) - second
    found = [recordings.interval_of_difference(sample) for sample in differences]
    assert np.mean([interval is not None and interval.low <= 0.03 <= interval.high for interval in found]) >= 0.93
    assert coverage(recordings, differences - 0.03) < 0.9


def test_three_recordings_mixed_in_all_ways_are_taken_for_the_cause_of_all_that_differs():
    # Effects of recordings and of mixtures are not told apart: 2/3 of the squares are what three recordings may do.
    interval = Recordings([["a", "b"], ["a", "c"], ["b", "c"]]).interval(np.array([0.0, 3.0, 6.0]))
    independent, variance = 18 / 6, 18 * 2 / 3
    assert half_width(interval) == pytest.approx(np.sqrt(variance) * student.ppf(0.975, 2))
    assert variance > independent


def test_values_that_have_no_interval_are_refused():
    with pytest.raises(ValueError, match=r"are \(1, 19\): give one for each of 20"):
        ONE_EACH.interval(np.zeros(19))
    with pytest.raises(ValueError, match="not finite"):
        ONE_EACH.interval(np.full((2, 20), np.nan))
    with pytest.raises(ValueError, match="confidence is 95"):
        ONE_EACH.interval(np.zeros(20), confidence=95)
    with pytest.raises(ValueError, match="a share is between 0 and 1"):
        ONE_EACH.interval_of_share(np.full(20, 50.0))
    with pytest.raises(ValueError, match=r"differences of shares from -1 to 1"):
        ONE_EACH.interval_of_difference(np.full(20, 50.0))


def test_an_interval_ends_where_the_scale_does():
    assert Interval(0.9, 0.7, 1.1).within(0, 1) == (0.9, 0.7, 1)
    assert Interval(0.1, -0.1, 0.3).within(0, 1) == (0.1, 0, 0.3)


def test_the_values_of_a_ratio_have_its_mean_and_vary_as_it_does():
    generator = np.random.default_rng(7)
    parts, wholes = generator.uniform(0, 2, 500), generator.integers(1, 5, 500).astype(float)
    values = ratio_values(parts, wholes)
    ratio = parts.sum() / wholes.sum()
    assert values.mean() == pytest.approx(ratio)
    without = (parts.sum() - parts) / (wholes.sum() - wholes)
    assert np.allclose(values - ratio, (ratio - without) * 500, atol=0.02)
    with pytest.raises(ValueError, match="no ratio"):
        ratio_values(np.zeros(3), np.zeros(3))
