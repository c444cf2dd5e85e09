"""How results of localization are read, mixture by mixture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from cocktail.tasks.localization import tables as localization_tables
from cocktail.tasks.localization.results import CENTRED_BOX, CONSTANT_MAP
from cocktail.tasks.localization.rules import RULES, ScoringRules
from cocktail.tasks.scores import Score, Scoreboard, ScoreGroup


@dataclass(frozen=True, kw_only=True)
class LocalizationScores:
    """AP, success and AUC of each number of sources by itself, in percent, by the first of the binary rules.

    Success is 100 or 0 for a mixture. Of AP and IoU means over a mixture's sources are taken first, as CAP and CIoU do.
    """

    rules: ScoringRules
    numbers: tuple[int, ...]
    """Numbers of sources, ascending."""

    task = "localization"
    unit = "percent"
    floors = (CONSTANT_MAP, CENTRED_BOX)
    why_none = "a source that nobody marked, or that no name tells from another"

    @property
    def about(self) -> str:
        return (
            "Means over mixtures, in percent; higher is better. A mixture's AP, or CAP of several sources, is the mean "
            "over its sources, and PIAP that in the best order of maps; it counts in IoU@t, or CIoU@t, if the mean IoU "
            f"over its sources reaches t. Maps are made binary by {self.rules.names[RULES[0]]}. "
            f"AUC is the area below that success over t from 0 to 1. {localization_tables.ABOUT_AUC}"
        )

    @property
    def groups(self) -> tuple[ScoreGroup, ...]:
        return tuple(self._group(number) for number in self.numbers)

    def _group(self, number: int) -> ScoreGroup:
        of = f"{number} source{'s' if number > 1 else ''}"
        threshold = f"{self.rules.threshold(number):g}"
        scores = tuple(
            Score(
                name=name,
                title=title.format(t=threshold),
                unit=self.unit,
                digits=1,
                scale=(0.0, 100.0),
                is_share=column == "success",
                of=of,
            )
            for (column, name), title in zip(_names(number).items(), TITLES[number > 1], strict=True)
        )
        return ScoreGroup(scores=scores, headline=scores[-1], num_sources=number)

    def share_in_best_order(self, results: pa.Table, system: str) -> float:
        return 0.0  # the best order has scores of its own

    def together(self, other: Scoreboard) -> LocalizationScores:
        """The board of every number of sources that one of the two has, by the first's rules."""
        numbers = {int(group.num_sources) for group in (*self.groups, *other.groups) if group.num_sources is not None}
        return replace(self, numbers=tuple(sorted(numbers)))

    def mixtures(self, results: pa.Table, system: str) -> pa.Table:
        tables = []
        for number in self.numbers:
            of_number = localization_tables.mixture_scores(results, system, number, self.rules)
            columns: dict[str, Any] = {
                name: of_number[name] for name in ("mixture_id", "num_sources", "class_ids", "recordings")
            }
            for column, name in _names(number).items():
                columns[name] = pc.multiply(of_number[column], 100.0)  # pyright: ignore[reportAttributeAccessIssue]
            tables.append(pa.table(columns))
        return pa.concat_tables(tables, promote_options="default")

    def by_class(self, results: pa.Table, system: str, classes: Sequence[str]) -> tuple[list[str], list[list[str]]]:
        return localization_tables.class_table(localization_tables.by_class(results, system, classes), self.rules)


TITLES = (("AP", "IoU@{t}", "AUC"), ("CAP", "PIAP", "CIoU@{t}", "AUC"))
"""Titles for one source, and for several."""


def _names(number: int) -> dict[str, str]:
    """The names of scores of so many sources, by the columns of `localization_tables.mixture_scores`."""
    names = {"ap": "cap", "piap": "piap", "success": "ciou", "auc": "auc"}
    if number == 1:
        names = {"ap": "ap", "success": "iou", "auc": "auc"}
    return {column: f"{name}_{number}_sources" for column, name in names.items()}
