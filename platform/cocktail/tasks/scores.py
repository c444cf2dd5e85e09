"""Results read mixture by mixture, whatever they are of: which scores there are, their names, units and values.

Comparisons and sweeps are made of these, and know neither separation nor localization.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cocktail.tasks.localization import tables as localization_tables
from cocktail.tasks.separation import tables
from cocktail.tasks.localization.results import CENTRED_BOX, CONSTANT_MAP
from cocktail.tasks.localization.rules import RULES, ScoringRules
from cocktail.tasks.separation.tables import format_cell
from cocktail.types import UsageError

_SEPARATION_COLUMNS = ("mixture_id", "system", "class_id", *tables.SCORES, "silent_estimate")
_LOCALIZATION_COLUMNS = ("mixture_id", "system", "num_sources", "class_id", *localization_tables.SCORES, "excluded")


@dataclass(frozen=True, kw_only=True)
class Score:
    """A number that a mixture has; higher is better."""

    name: str
    title: str
    unit: str
    digits: int
    of: str = ""
    """The mixtures that have it, where others have not: `2 sources`."""

    @property
    def label(self) -> str:
        """The title where scores of other mixtures stand beside it."""
        return f"{self.title}, {self.of}" if self.of else self.title

    def cell(self, value: float | None) -> str:
        """As tables show it; nothing for what is not there."""
        if value is None or value != value:  # not a number
            return ""
        return f"{self._rounded(value):.{self.digits}f}"

    def signed(self, value: float) -> str:
        """As tables show a difference."""
        return f"{self._rounded(value):+.{self.digits}f}"

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
    """Of the mixtures; None are all."""

    @property
    def title(self) -> str:
        return f"mixtures of {self.headline.of}" if self.headline.of else ""

    def num_mixtures(self, mixtures: pa.Table) -> int:
        """How many of a `Scoreboard.mixtures` may have these scores."""
        if self.num_sources is None:
            return len(mixtures)
        return int(np.sum(mixtures["num_sources"].to_numpy() == self.num_sources))


class Scoreboard(Protocol):
    """How one kind of results is read."""

    @property
    def kind(self) -> str:
        """What was asked of the model: two kinds have no score in common."""
        ...

    @property
    def unit(self) -> str:
        """Of all scores."""
        ...

    @property
    def rules(self) -> Any:
        """By which the scores came about, where there is a choice: those by others are not to be compared."""
        ...

    @property
    def groups(self) -> tuple[ScoreGroup, ...]:
        """All scores; the last group's headline says how good a model is."""
        ...

    @property
    def told(self) -> str:
        """What a mixture's scores are, in a sentence or two."""
        ...

    @property
    def why_none(self) -> str:
        """Why a mixture may have no score, after `for`."""
        ...

    def mixtures(self, results: pa.Table, system: str) -> pa.Table:
        """A row a mixture of a system: `mixture_id`, `num_sources`, `class_ids`, and a column for each score, in its
        unit, null where the mixture has none."""
        ...

    def by_class(self, results: pa.Table, system: str, classes: Sequence[str]) -> tuple[list[str], list[list[str]]]:
        """Header and rows of means over each class's sources, the best class first."""
        ...


@dataclass(frozen=True)
class SeparationScores:
    """SDR and its kin, in dB: means over all of a mixture's sources, of mixtures of any number of them."""

    kind = "separation"
    unit = "dB"
    told = "Means over a mixture's sources, then over mixtures, in dB; higher is better."
    why_none = "a silent reference"
    rules = None

    @property
    def groups(self) -> tuple[ScoreGroup, ...]:
        scores = tuple(Score(name=name, title=tables.HEADERS[name], unit=self.unit, digits=2) for name in tables.SCORES)
        return (ScoreGroup(scores=scores, headline=scores[0]),)

    def mixtures(self, results: pa.Table, system: str) -> pa.Table:
        return tables.mixture_scores(results, system)

    def by_class(self, results: pa.Table, system: str, classes: Sequence[str]) -> tuple[list[str], list[list[str]]]:
        found = tables.by_class(results, system, classes)
        header = [str(tables.HEADERS.get(name, name)) for name in found.column_names]
        return header, [[format_cell(value) for value in row.values()] for row in found.to_pylist()]


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


def require_results(results: pa.Table) -> None:
    """Raise UsageError for a table that is not one of results."""
    kinds = (_SEPARATION_COLUMNS, _LOCALIZATION_COLUMNS)
    missing = [[name for name in columns if name not in results.column_names] for columns in kinds]
    if all(missing):
        raise UsageError(f"it has no columns {', '.join(missing[0])}")


def scoreboard(results: pa.Table, settings: Mapping[str, str]) -> Scoreboard:
    """How a table of results is read, by its columns. By what rules maps were scored it says itself, or else the
    `settings` of its run, by dotted path. Raises UsageError for a table of something else, or if nothing says so."""
    require_results(results)
    if all(name in results.column_names for name in _LOCALIZATION_COLUMNS):
        numbers = sorted(results["num_sources"].unique().to_pylist())
        rules = ScoringRules.read_from(results) or _rules(settings)
        return LocalizationScores(rules=rules, numbers=tuple(numbers))
    return SeparationScores()


def together(boards: Sequence[Scoreboard]) -> Scoreboard:
    """The board that reads the results of all of one kind: of every number of sources that one has, by the first's
    rules."""
    first, numbers = boards[0], set()
    for board in boards:
        numbers |= set(board.numbers) if isinstance(board, LocalizationScores) else set()
    return replace(first, numbers=tuple(sorted(numbers))) if isinstance(first, LocalizationScores) else first


def _rules(settings: Mapping[str, str]) -> ScoringRules:
    paths = {field.name: f"evaluation.{field.name}" for field in fields(ScoringRules)}
    told = {name: settings[path] for name, path in paths.items() if path in settings}
    if not told:
        raise UsageError(
            "nothing says by which rules its maps were made binary and counted, as files of earlier versions do not: "
            "give its MLflow run, or score its checkpoint again with jobs/evaluate.py"
        )
    return ScoringRules(**{name: float(value) for name, value in told.items() if value != "None"})


def has_scores(board: Scoreboard, mixtures: pa.Table) -> pa.ChunkedArray:
    """bool: which rows of a board's mixtures have a score."""
    names = [score.name for group in board.groups for score in group.scores]
    return functools.reduce(pc.or_, (mixtures[name].is_valid() for name in names))  # pyright: ignore[reportAttributeAccessIssue]


def is_control(system: str) -> bool:
    """Whether a system is no model's: the mixture, ideal masks, or maps that hear and see nothing."""
    return system.partition(",")[0] in ("mixture", CONSTANT_MAP, CENTRED_BOX) or system.startswith("ideal ")


def own_systems(results: pa.Table) -> list[str]:
    """The models in a table of results: neither controls nor, with a comma, other readings of a model."""
    return [name for name in results["system"].unique().to_pylist() if not is_control(name) and "," not in name]
