"""How results of separation are read, mixture by mixture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from cocktail.tasks.scores import Score, Scoreboard, ScoreGroup
from cocktail.tasks.separation import tables

UNPROCESSED = "mixture"
"""The control that takes the mixture for each estimate."""


@dataclass(frozen=True)
class SeparationScores:
    """SDR and its kin, in dB: means over all of a mixture's sources, of mixtures of any number of them."""

    task = "separation"
    unit = "dB"
    about = "Means over a mixture's sources, then over mixtures, in dB; higher is better."
    why_none = "a silent reference"
    rules = None
    floors = (UNPROCESSED,)

    @property
    def groups(self) -> tuple[ScoreGroup, ...]:
        scores = tuple(Score(name=name, title=tables.HEADERS[name], unit=self.unit, digits=2) for name in tables.SCORES)
        return (ScoreGroup(scores=scores, headline=scores[0]),)

    def together(self, other: Scoreboard) -> SeparationScores:
        return self

    def mixtures(self, results: pa.Table, system: str) -> pa.Table:
        return tables.mixture_scores(results, system)

    def by_class(self, results: pa.Table, system: str, classes: Sequence[str]) -> tuple[list[str], list[list[str]]]:
        return tables.class_table(tables.by_class(tables.scored_rows(results, system), classes))
