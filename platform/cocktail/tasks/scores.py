"""Results read mixture by mixture, whatever they are of: which scores there are, their names, units and values.

Comparisons and sweeps are made of these, and know neither separation nor localization.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cocktail.metrics.intervals import Interval, Recordings


@dataclass(frozen=True, kw_only=True)
class Score:
    """A number that a mixture has; higher is better."""

    name: str
    title: str
    unit: str
    digits: int
    scale: tuple[float, float] = (-math.inf, math.inf)
    """The least and the most that it can be."""
    is_share: bool = False
    """Whether a mixture has the most of the scale, or 0, and nothing between: the mean is the share of those that do.
    """
    of: str = ""
    """The mixtures that have it, where others have not: `2 sources`."""

    @property
    def label(self) -> str:
        """The title where scores of other mixtures stand beside it."""
        return f"{self.title}, {self.of}" if self.of else self.title

    def cell(self, value: float | None) -> str:
        """A value as tables show it; empty for one that is not there."""
        if value is None or value != value:  # not a number
            return ""
        return f"{self._rounded(value):.{self.digits}f}"

    def signed(self, value: float) -> str:
        """A difference as tables show it, with its sign."""
        return f"{self._rounded(value):+.{self.digits}f}"

    def mean_interval(self, values: np.ndarray, recordings: Recordings) -> Interval | None:
        """The 95 % interval of the mean of values [M], or [S, M] under several seeds, on the scale; None where the
        recordings say why there is none."""
        lowest, highest = self.scale
        if self.is_share:
            found = recordings.interval_of_share(values / highest)
            return found and Interval(*(highest * each for each in found))
        found = recordings.interval(values)
        return found and found.within(lowest, highest)

    def difference_interval(self, values: np.ndarray, recordings: Recordings) -> Interval | None:
        """That of the mean of differences of its values, as `mean_interval`."""
        if not self.is_share:
            return recordings.interval(values)
        whole = self.scale[1]
        found = recordings.interval_of_difference(values / whole)
        return found and Interval(*(whole * each for each in found))

    def interval(self, low: float, high: float) -> str:
        return f"{self.cell(low)} to {self.cell(high)}"

    def _rounded(self, value: float) -> float:
        return round(value, self.digits) + 0.0  # no -0.0


@dataclass(frozen=True, kw_only=True)
class ScoreGroup:
    """Scores of the same mixtures, side by side in a table."""

    scores: tuple[Score, ...]
    headline: Score
    """What figures show, and what says which of two is better."""
    num_sources: int | None = None
    """Number of sources in the mixtures that have these scores; None for mixtures of any number."""
    of_parts: tuple[Score, ...] = ()
    """Scores of parts of a mixture's sources, which other readings of a model may move more than the headline."""

    @property
    def title(self) -> str:
        return f"mixtures of {self.headline.of}" if self.headline.of else ""

    def num_mixtures(self, mixtures: pa.Table) -> int:
        """How many of a `Scoreboard.mixtures` may have these scores."""
        if self.num_sources is None:
            return len(mixtures)
        return int(np.sum(mixtures["num_sources"].to_numpy() == self.num_sources))


class Scoreboard(Protocol):
    """How the results of one task are read."""

    @property
    def task(self) -> str:
        """The task's name: results of two tasks have no score in common."""
        ...

    @property
    def unit(self) -> str:
        """The unit of all scores."""
        ...

    @property
    def rules(self) -> Any:
        """The rules of scoring, where there is a choice: scores by others are not to be compared."""
        ...

    @property
    def groups(self) -> tuple[ScoreGroup, ...]:
        """All scores; the last group's headline says how good a model is."""
        ...

    @property
    def about(self) -> str:
        """What a mixture's scores are, in a sentence or two."""
        ...

    @property
    def floors(self) -> tuple[str, ...]:
        """Controls that say what doing nothing is worth."""
        ...

    @property
    def why_none(self) -> str:
        """Why a mixture may have no score, after `for`."""
        ...

    def share_in_best_order(self, results: pa.Table, system: str) -> float:
        """Share of a system's mixtures whose scores take its answers in the best order, as it does not say whose they
        are."""
        ...

    def together(self, other: Scoreboard) -> Scoreboard:
        """A board of the same task that reads the results of both."""
        ...

    def mixtures(self, results: pa.Table, system: str) -> pa.Table:
        """A row a mixture of a system: `mixture_id`, `num_sources`, `class_ids`, the `recordings` of its sources, and a
        column for each score, in its unit, null where the mixture has none."""
        ...

    def by_class(self, results: pa.Table, system: str, classes: Sequence[str]) -> tuple[list[str], list[list[str]]]:
        """Header and rows of means over each class's sources, the best class first."""
        ...


def order_note(shares: Iterable[tuple[str, float]]) -> str:
    """A sentence on the systems that have mixtures taken in the best order, by label and their share; of several of one
    label the mean. Empty if there are none."""
    of_labels: dict[str, list[float]] = {}
    for label, share in shares:
        of_labels.setdefault(label, []).append(share)
    told = {label: sum(each) / len(each) for label, each in of_labels.items() if any(each)}
    if not told:
        return ""
    helped: dict[str, list[str]] = {}
    for label, share in told.items():
        where = "all mixtures" if share == 1 else f"{max(share, 0.01):.0%} of the mixtures"
        helped.setdefault(where, []).append(label)
    words = " ".join(f"In {where} this helps {'; '.join(labels)}." for where, labels in helped.items())
    return (
        "Where classes do not say whose an estimate is, estimates are taken in the best order, that of the highest "
        f"mean SIR (mir_eval's rule). {words}"
    )


def has_scores(board: Scoreboard, mixtures: pa.Table) -> pa.ChunkedArray:
    """bool: which rows of a board's mixtures have a score."""
    names = [score.name for group in board.groups for score in group.scores]
    return functools.reduce(pc.or_, (mixtures[name].is_valid() for name in names))  # pyright: ignore[reportAttributeAccessIssue]
