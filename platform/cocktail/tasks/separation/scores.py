"""How results of separation are read, mixture by mixture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from cocktail.tasks.scores import Score, Scoreboard, ScoreGroup
from cocktail.tasks.separation import tables
from cocktail.tasks.separation.sight import INVISIBLE, SIGHT_SCORES, VISIBLE, with_sight_scores

UNPROCESSED = "mixture"
"""The control that takes the mixture for each estimate."""


@dataclass(frozen=True)
class SeparationScores:
    """SDR and its kin, in dB: means over all of a mixture's sources, of mixtures of any number of them."""

    withheld: bool = False
    """Whether visible sources are told from invisible ones, too."""

    task = "separation"
    unit = "dB"
    about = "Means over a mixture's sources, then over mixtures, in dB; higher is better."
    why_none = "a silent reference"
    rules = None
    floors = (UNPROCESSED,)

    @property
    def groups(self) -> tuple[ScoreGroup, ...]:
        scores = tuple(Score(name=name, title=tables.HEADERS[name], unit=self.unit, digits=2) for name in tables.SCORES)
        sights = (VISIBLE, INVISIBLE) if self.withheld else ()
        by_sight = tuple(
            Score(name=f"{sight}_{name}", title=f"{sight} {tables.HEADERS[name]}", unit=self.unit, digits=2)
            for sight in sights
            for name in SIGHT_SCORES
        )
        of_parts = by_sight[:: len(SIGHT_SCORES)]
        return (ScoreGroup(scores=scores + by_sight, headline=scores[0], of_parts=of_parts),)

    def share_in_best_order(self, results: pa.Table, system: str) -> float:
        return tables.share_in_best_order(results, system)

    def together(self, other: Scoreboard) -> SeparationScores:
        assert isinstance(other, SeparationScores)
        return SeparationScores(withheld=self.withheld or other.withheld)

    def mixtures(self, results: pa.Table, system: str) -> pa.Table:
        mixtures = tables.mixture_scores(results, system)
        return with_sight_scores(mixtures, results, system) if self.withheld else mixtures

    def by_class(self, results: pa.Table, system: str, classes: Sequence[str]) -> tuple[list[str], list[list[str]]]:
        return tables.class_table(tables.by_class(tables.scored_rows(results, system), classes))
