"""Where the mean of a score over mixtures may lie, given of which recordings they are, and under which training seeds.

Mixtures that share a recording err together, so that a mean over a hundred mixtures of twenty recordings is known no
better than twenty recordings allow. The score of mixture m is taken for y[m] = mean + sum_r A[m, r] a[r] + e[m]: A is
the share of its sources that are cut out of recording r, a and e are independent effects of recordings and mixtures.
Their variances follow from two sums of squares by the method of moments (Searle, Casella and McCulloch, "Variance
Components", 1992), and give the variance of the mean: that of Aronow, Samii and Assenova ("Cluster-robust variance
estimation for dyadic data", 2015), which is too small for few recordings, without its bias, and for mixtures of one
recording each Student's over the recordings where all have as many. It is never below that of independent mixtures.

Shape letters: S seeds, M mixtures, R recordings.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_array
from scipy.special import stdtrit

FEWEST_RECORDINGS = 3
"""With fewer there is no interval: two say nothing of how much a third may differ."""
TOO_FEW = "too few recordings"
FEW_DOMINATE = "few recordings dominate"
_FEWEST_EFFECTIVE = 2.5
"""With fewer that count, which is as good as two, intervals are several times too wide or too narrow by chance."""
_LEAST_FREEDOM = 1.0
"""What one difference of two recordings gives: estimates below it only say that they are bad themselves."""
_ROUNDING = 1e-9
"""Shares and variances of shares that are no further from their bounds are on them."""
_DEGENERATE = 1e-9
"""Below this share of its largest value, a determinant of moments is rounding."""


class Interval(NamedTuple):
    """A mean, in the unit of the scores, and where it may lie."""

    mean: float
    low: float
    high: float

    def within(self, lowest: float, highest: float) -> Interval:
        """The interval without what lies outside the scale of the scores, where no mean can be."""
        return Interval(self.mean, max(self.low, lowest), min(self.high, highest))


class _Variance(NamedTuple):
    """The variance of a mean, in parts: each with the degrees of freedom that it is known with."""

    independent: float
    """What it would be if mixtures shared no recording; M - 1 degrees of freedom."""
    shared: float
    """What shared recordings add, 0 or more."""
    shared_freedom: float


@dataclass(frozen=True, eq=False)
class Recordings:
    """The recordings that each of M mixtures is made of, and what they allow to say of means over the mixtures."""

    of_mixtures: Sequence[Sequence[str | None]]
    """The recording of each source of each mixture; None where nobody said."""

    @cached_property
    def number(self) -> int | None:
        """R; None if that is not known of every source."""
        names = {name for of_mixture in self.of_mixtures for name in of_mixture}
        return None if None in names or not all(self.of_mixtures) else len(names)

    @cached_property
    def why_none(self) -> str:
        """Why means have no interval, in words that fit into a table; empty if they have one."""
        if not self.of_mixtures:
            return "no mixtures"
        if self.number is None:
            return "recordings not known"
        loads = self._loads
        if len(loads) < FEWEST_RECORDINGS:
            return TOO_FEW
        return FEW_DOMINATE if loads.sum() ** 2 / (loads @ loads) < _FEWEST_EFFECTIVE else ""

    @cached_property
    def _loads(self) -> np.ndarray:
        """The sum of the shares that each recording has in the mixtures; those that sound in the same mixtures only are
        not told apart, and are one. The square of their sum, by the sum of their squares, is how many recordings of as
        many mixtures each they are worth (Kish, "Survey Sampling", 1965)."""
        mixtures_of = defaultdict[str | None, set[int]](set)
        loads = defaultdict[str | None, float](float)
        for m, of_mixture in enumerate(self.of_mixtures):
            for name in of_mixture:
                mixtures_of[name].add(m)
                loads[name] += 1 / len(of_mixture)
        together = defaultdict[frozenset[int], float](float)
        for name, mixtures in mixtures_of.items():
            together[frozenset(mixtures)] += loads[name]
        return np.array(list(together.values()))

    def interval(self, values: np.ndarray, confidence: float = 0.95) -> Interval | None:
        """The mean of values [M], or [S, M] under several training seeds, with its interval at a confidence in (0, 1).

        None where `why_none` says so. It speaks of other recordings, and, with several seeds, of other seeds: their
        variance is what the means of seeds show beyond the part that mixtures cause in each (inclusion and exclusion,
        Cameron, Gelbach and Miller, 2011). With one seed it is of that seed alone. Quantiles are Student's, of the
        parts of the variance with their own degrees of freedom, weighted by these parts (Cochran, 1964); those of what
        recordings share are Satterthwaite's (1946), one at least. Raises ValueError for values of another shape or that
        are not finite, or a confidence out of range.
        """
        values = self._checked(values, confidence)
        if self.why_none:
            return None
        mean = float(values.mean())
        variance, quantile = self._variance_of_mean(values, confidence)
        half = float(quantile * np.sqrt(variance))
        return Interval(mean, mean - half, mean + half)

    def interval_of_share(self, values: np.ndarray, confidence: float = 0.95) -> Interval | None:
        """The mean p of values as in `interval`, where it is a share of all that was counted, with its interval in
        [0, 1].

        The values are 0 or 1, or `ratio_values` of a part and its whole. A mean of few ones has a variance that is
        known badly, and none if all are alike, so the interval is Wilson's (1927), with Student's quantile of
        `interval`, for as many independent mixtures as would know the share as well: p (1 - p) / variance (Kish,
        "Survey Sampling", 1965; Dean and Pagano, "Evaluating confidence interval methods for binomial proportions in
        clustered surveys", 2015). Where there is no variance, they are as many as if recordings caused all that might
        differ. Raises ValueError as `interval`, and for a mean outside [0, 1].
        """
        values = self._checked(values, confidence)
        if self.why_none:
            return None
        share = float(values.mean())
        if not -_ROUNDING <= share <= 1 + _ROUNDING:
            raise ValueError(f"the mean is {share}: a share is between 0 and 1")
        share = min(max(share, 0.0), 1.0)
        number, quantile = self._worth(values, share * (1 - share), confidence)
        added = quantile**2
        middle = (share * number + added / 2) / (number + added)
        half = float(quantile * np.sqrt(share * (1 - share) * number + added / 4) / (number + added))
        return Interval(share, middle - half, middle + half).within(0, 1)

    def interval_of_difference(self, values: np.ndarray, confidence: float = 0.95) -> Interval | None:
        """The mean of values as in `interval`, where each is the difference of two that are 0 or 1, with its interval
        in [-1, 1].

        That of Agresti and Min ("Simple improved confidence intervals for comparing matched proportions", 2005), who
        add half a mixture to those where both are 1, where both are 0, and where either alone is. Quantile and number
        of mixtures are those of `interval_of_share`. Raises ValueError as `interval`, and for a value outside [-1, 1].
        """
        values = self._checked(values, confidence)
        if self.why_none:
            return None
        if np.abs(values).max() > 1 + _ROUNDING:
            raise ValueError(f"values go from {values.min()} to {values.max()}: differences of shares from -1 to 1")
        difference, differ = float(values.mean()), float(np.square(values).mean())
        number, quantile = self._worth(values, max(differ - difference**2, 0.0), confidence)
        middle = number * difference / (number + 2)
        squares = number * differ + 1 - (number * difference) ** 2 / (number + 2)
        half = float(quantile * np.sqrt(squares)) / (number + 2)
        return Interval(difference, middle - half, middle + half).within(-1, 1)

    def _worth(self, values: np.ndarray, variance_of_one: float, confidence: float) -> tuple[float, float]:
        """How many independent values of such a variance would know the mean of values [S, M] as well, and the
        quantile; without variance, as many as if recordings caused all that might differ."""
        variance, quantile = self._variance_of_mean(values, confidence)
        if variance > _ROUNDING * variance_of_one:
            return variance_of_one / variance, quantile
        return len(self.of_mixtures) * float(self._shares.power(2).sum()) / self._moments.load, quantile

    def _checked(self, values: np.ndarray, confidence: float) -> np.ndarray:
        """The values as float64 [S, M]."""
        values = np.atleast_2d(np.asarray(values, np.float64))
        if values.ndim != 2 or values.shape[1] != len(self.of_mixtures) or not len(values):
            raise ValueError(f"values are {values.shape}: give one for each of {len(self.of_mixtures)} mixtures")
        if not np.isfinite(values).all():
            raise ValueError("a value is not finite: clip scores, and leave out mixtures without one, before")
        if not 0 < confidence < 1:
            raise ValueError(f"the confidence is {confidence}: give a share between 0 and 1, such as 0.95")
        return values

    def _variance_of_mean(self, values: np.ndarray, confidence: float) -> tuple[float, float]:
        """The variance of the mean of values [S, M], and the quantile of Student's that its parts have together."""
        of_mixtures = self._variance(values.mean(axis=0) - values.mean())
        variances = np.array([of_mixtures.independent, of_mixtures.shared, self._of_seeds(values)])
        freedoms = np.array([values.shape[1] - 1, of_mixtures.shared_freedom, max(len(values) - 1, 1)])
        quantiles = stdtrit(freedoms, (1 + confidence) / 2)
        total = float(variances.sum())
        return total, float(variances @ quantiles / total if total else quantiles[0])

    def _of_seeds(self, values: np.ndarray) -> float:
        """What S seeds add to the variance of the mean of values [S, M]: 0 or more, and 0 for one."""
        S = len(values)
        if S == 1:
            return 0.0
        of_seeds = values.mean(axis=1)
        apart = values - values.mean(axis=0) - of_seeds[:, None] + values.mean()
        both = sum(sum(self._variance(row)[:2]) for row in apart) / (S * (S - 1))
        return max(float(of_seeds.var(ddof=1)) / S - both, 0.0)

    def _variance(self, deviations: np.ndarray) -> _Variance:
        """The variance of the mean of values that deviate from it so, float64 [M]."""
        M, moments = len(deviations), self._moments
        squares = float(deviations @ deviations)
        of_recordings = float(np.square(deviations @ self._shares).sum())
        independent = squares / (M * (M - 1))
        p0, p1, p2 = moments.powers[:3]
        determinant = p0 * p2 - p1**2
        if determinant <= _DEGENERATE * p0 * p2:  # effects of recordings and of mixtures are not told apart
            largest = squares * moments.load / p1 / M**2
            return _Variance(independent, max(largest - independent, 0.0), p0)
        by_recording = (p0 * of_recordings - p1 * squares) / determinant
        by_mixture = (p2 * squares - p1 * of_recordings) / determinant
        if by_recording <= 0:
            return _Variance(independent, 0.0, p0)
        variance = (by_recording * moments.load + by_mixture * M) / M**2
        # The same as a quadratic form: its weights of the two sums, and what it is along each eigenvector.
        weights = np.array([p2 * M - p1 * moments.load, p0 * moments.load - p1 * M]) / determinant
        terms = np.convolve(weights, [max(by_mixture, 0.0), by_recording])
        expected = terms @ moments.powers[:3]
        spread = np.convolve(terms, terms) @ moments.powers
        freedom = max(float(expected**2 / spread), _LEAST_FREEDOM)
        return _Variance(independent, max(variance - independent, 0.0), freedom)

    @cached_property
    def _shares(self) -> csr_array:
        """A [M, R]."""
        number_of: dict[str | None, int] = {}
        rows, columns, shares = [], [], []
        for m, of_mixture in enumerate(self.of_mixtures):
            for name in of_mixture:
                rows.append(m)
                columns.append(number_of.setdefault(name, len(number_of)))
                shares.append(1 / len(of_mixture))
        return csr_array((shares, (rows, columns)), shape=(len(self.of_mixtures), len(number_of)))

    @cached_property
    def _moments(self) -> _Moments:
        return _Moments.of(self._shares, len(self.of_mixtures))


@dataclass(frozen=True)
class _Moments:
    """What expectations of sums of squares are made of, for shares A [M, R] of recordings in mixtures."""

    load: float
    """The sum of the squares of A's column sums."""
    powers: tuple[float, float, float, float, float]
    """Sums of the powers 0 to 4 of the M - 1 eigenvalues of A A', both sides without the mean over mixtures."""

    @classmethod
    def of(cls, shares: csr_array, M: int) -> _Moments:
        """By the traces of powers of A'A - d d' / M, d being the column sums: A'A is small, or sparse."""
        d = np.asarray(shares.sum(axis=0)).ravel()
        gram = (shares.T @ shares).tocsr()
        squared = (gram @ gram).tocsr()
        once, twice = gram @ d, squared @ d
        a, b, c, e = d @ d / M, d @ once / M, d @ twice / M, once @ twice / M  # d' (A'A)^k d / M, k = 0 ... 3
        powers = (
            float(M - 1),
            gram.trace() - a,
            gram.power(2).sum() - 2 * b + a**2,
            gram.multiply(squared).sum() - 3 * c + 3 * a * b - a**3,
            squared.power(2).sum() - 4 * e + 4 * a * c + 2 * b**2 - 4 * a**2 * b + a**4,
        )
        return cls(load=float(d @ d), powers=tuple(float(power) for power in powers))  # pyright: ignore[reportArgumentType]


def ratio_values(parts: np.ndarray, wholes: np.ndarray) -> np.ndarray:
    """Values [M] whose mean is the ratio of two sums, and that vary as it does, of what M mixtures add to the sums.

    The ratio r = sum(parts) / sum(wholes), made linear: r + (parts - r wholes) / mean(wholes), so that intervals of
    means are intervals of ratios (Cochran, "Sampling Techniques", 1977). Raises ValueError for sums of zero wholes.
    """
    parts, wholes = np.asarray(parts, np.float64), np.asarray(wholes, np.float64)
    if not wholes.sum() > 0:
        raise ValueError("the wholes add up to nothing: there is no ratio")
    ratio = parts.sum() / wholes.sum()
    return ratio + (parts - ratio * wholes) / wholes.mean()
