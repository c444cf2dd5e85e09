"""How results of localization are read, mixture by mixture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from cocktail.tasks.localization import tables as localization_tables
from cocktail.tasks.localization.rules import RULES, ScoringRules
from cocktail.tasks.scores import Score, ScoreGroup
from cocktail.types import UsageError

_LOCALIZATION_COLUMNS = ("mixture_id", "system", "num_sources", "class_id", *localization_tables.SCORES, "excluded")


@dataclass(frozen=True, kw_only=True)
class LocalizationScores:
    """AP, success and AUC of each number of sources by itself, in percent, by the first of the binary rules.

    Success is 100 or 0 for a mixture. Of AP and IoU means over a mixture's sources are taken first, as CAP and CIoU do.
    """

    rules: ScoringRules
    numbers: tuple[int, ...]
    """Of sources, ascending."""

    kind = "localization"
    unit = "percent"
    why_none = "a source that nobody marked, or that no name tells from another"

    @property
    def told(self) -> str:
        return (
            "Means over mixtures, in percent; higher is better. A mixture's AP, or CAP of several sources, is the mean "
            "over its sources, and PIAP that in the best order of maps; it counts in IoU@t, or CIoU@t, if the mean IoU "
            f"over its sources reaches t. Maps are made binary by {self.rules.names[RULES[0]]}. "
            "AUC is the area below that success over t from 0 to 1."
        )

    @property
    def groups(self) -> tuple[ScoreGroup, ...]:
        return tuple(self._group(number) for number in self.numbers)

    def _group(self, number: int) -> ScoreGroup:
        of = f"{number} source{'s' if number > 1 else ''}"
        threshold = f"{self.rules.threshold(number):g}"
        scores = tuple(
            Score(name=name, title=title.format(t=threshold), unit=self.unit, digits=1, of=of)
            for name, title in zip(_names(number).values(), TITLES[number > 1], strict=True)
        )
        return ScoreGroup(scores=scores, headline=scores[-1], num_sources=number)

    def mixtures(self, results: pa.Table, system: str) -> pa.Table:
        found = []
        for number in self.numbers:
            of_number = localization_tables.mixture_scores(results, system, number, self.rules)
            columns: dict[str, Any] = {name: of_number[name] for name in ("mixture_id", "num_sources", "class_ids")}
            for column, name in _names(number).items():
                columns[name] = pc.multiply(of_number[column], 100.0)  # pyright: ignore[reportAttributeAccessIssue]
            found.append(pa.table(columns))
        return pa.concat_tables(found, promote_options="default")

    def by_class(self, results: pa.Table, system: str, classes: Sequence[str]) -> tuple[list[str], list[list[str]]]:
        return localization_tables.class_table(localization_tables.by_class(results, system, classes), self.rules)


TITLES = (("AP", "IoU@{t}", "AUC"), ("CAP", "PIAP", "CIoU@{t}", "AUC"))
"""Of one source, and of several."""


def _names(number: int) -> dict[str, str]:
    """The names of scores of so many sources, by the columns of `localization_tables.mixture_scores`."""
    names = {"ap": "cap", "piap": "piap", "success": "ciou", "auc": "auc"}
    if number == 1:
        names = {"ap": "ap", "success": "iou", "auc": "auc"}
    return {column: f"{name}_{number}_sources" for column, name in names.items()}


def _rules(settings: Mapping[str, str]) -> ScoringRules:
    paths = {field.name: f"evaluation.{field.name}" for field in fields(ScoringRules)}
    told = {name: settings[path] for name, path in paths.items() if path in settings}
    if not told:
        raise UsageError(
            "nothing says by which rules its maps were made binary and counted, as files of earlier versions do not: "
            "give its MLflow run, or score its checkpoint again with jobs/evaluate.py"
        )
    return ScoringRules(**{name: float(value) for name, value in told.items() if value != "None"})
