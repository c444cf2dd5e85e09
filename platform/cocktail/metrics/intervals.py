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
        mixtures_of = defaultdict[str | None, set[int]](set)
        for m, of_mixture in enumerate(self.of_mixtures):
            for name in of_mixture:
                mixtures_of[name].add(m)
        # Recordings that sound in the same mixtures only are not told apart.
        told_apart = {frozenset(mixtures) for mixtures in mixtures_of.values()}
        return TOO_FEW if len(told_apart) < FEWEST_RECORDINGS else ""

    def interval(self, values: np.ndarray, confidence: float = 0.95) -> Interval | None:
        """The mean of values [M], or [S, M] under several training seeds, with its interval at a confidence in (0, 1).

        None where `why_none` says so. It speaks of other recordings, and, with several seeds, of other seeds: their
        variance is what the means of seeds show beyond the part that mixtures cause in each (inclusion and exclusion,
        Cameron, Gelbach and Miller, 2011). With one seed it is of that seed alone. Quantiles are Student's, of the
        parts of the variance with their own degrees of freedom, weighted by these parts (Cochran, 1964); those of what
        recordings share are Satterthwaite's (1946). Raises ValueError for values of another shape or that are not
        finite, or a confidence out of range.
        """
        values = np.atleast_2d(np.asarray(values, np.float64))
        if values.ndim != 2 or values.shape[1] != len(self.of_mixtures) or not len(values):
            raise ValueError(f"values are {values.shape}: give one for each of {len(self.of_mixtures)} mixtures")
        if not np.isfinite(values).all():
            raise ValueError("a value is not finite: clip scores, and leave out mixtures without one, before")
        if not 0 < confidence < 1:
            raise ValueError(f"the confidence is {confidence}: give a share between 0 and 1, such as 0.95")
        if self.why_none:
            return None
        mean = float(values.mean())
        of_mixtures = self._variance(values.mean(axis=0) - mean)
        variances = np.array([of_mixtures.independent, of_mixtures.shared, self._of_seeds(values)])
        freedoms = np.array([values.shape[1] - 1, of_mixtures.shared_freedom, max(len(values) - 1, 1)])
        total = variances.sum()
        if not total:
            return Interval(mean, mean, mean)
        quantile = variances @ stdtrit(freedoms, (1 + confidence) / 2) / total
        half = float(quantile * np.sqrt(total))
        return Interval(mean, mean - half, mean + half)

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
        terms = np.polynomial.polynomial.polymul(weights, [max(by_mixture, 0.0), by_recording])
        expected = terms @ [p0, p1, p2]
        spread = np.polynomial.polynomial.polymul(terms, terms) @ moments.powers
        return _Variance(independent, max(variance - independent, 0.0), float(expected**2 / spread))

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
