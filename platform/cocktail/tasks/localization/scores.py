"""How results of localization are read, mixture by mixture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from cocktail.tasks.localization import tables as localization_tables
from cocktail.tasks.localization.results import CENTRED_BOX, CONSTANT_MAP
from cocktail.tasks.localization.rules import RULES, ScoringRules, name_end
from cocktail.tasks.scores import Score, Scoreboard, ScoreGroup


@dataclass(frozen=True, kw_only=True)
class LocalizationScores:
    """AP, and success and AUC by each of the binary rules, of each number of sources by itself, in percent.

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
            f"over its sources reaches t. Maps are made binary by {self.rules.names[RULES[0]]} where no other rule "
            "stands beside a title. "
            f"AUC is the area below that success over t from 0 to 1. {localization_tables.ABOUT_AUC}"
        )

    @property
    def groups(self) -> tuple[ScoreGroup, ...]:
        return tuple(self._group(number) for number in self.numbers)

    def _group(self, number: int) -> ScoreGroup:
        of = f"{number} source{'s' if number > 1 else ''}"
        scores = {
            column: Score(
                name=f"{name}_{number}_sources",
                title=title,
                unit=self.unit,
                digits=1,
                scale=(0.0, 100.0),
                is_share=column.startswith("success"),
                of=of,
            )
            for column, (name, title) in self._columns(number).items()
        }
        return ScoreGroup(scores=tuple(scores.values()), headline=scores["auc"], num_sources=number)

    def _columns(self, number: int) -> dict[str, tuple[str, str]]:
        """Names and titles of the scores of so many sources, by columns of `localization_tables.mixture_scores`."""
        ap, iou = ("AP", "IoU") if number == 1 else ("CAP", "CIoU")
        columns = {"ap": (ap.lower(), ap)} | ({"piap": ("piap", "PIAP")} if number > 1 else {})
        for rule, told in self.rules.names.items():
            end, by = name_end(rule), "" if rule == RULES[0] else f", {told}"
            columns[f"success{end}"] = f"{iou.lower()}{end}", f"{iou}@{self.rules.threshold(number):g}{by}"
            columns[f"auc{end}"] = f"auc{end}", f"AUC{by}"
        return columns

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
            for column, (name, _) in self._columns(number).items():
                columns[f"{name}_{number}_sources"] = pc.multiply(of_number[column], 100.0)  # pyright: ignore[reportAttributeAccessIssue]
            tables.append(pa.table(columns))
        return pa.concat_tables(tables, promote_options="default")

    def by_class(self, results: pa.Table, system: str, classes: Sequence[str]) -> tuple[list[str], list[list[str]]]:
        return localization_tables.class_table(localization_tables.by_class(results, system, classes), self.rules)
