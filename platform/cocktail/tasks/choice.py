"""Which tasks there are, and which a model or a table of results is of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa

from cocktail.config.evaluation import Evaluation
from cocktail.tasks.localization.results import CENTRED_BOX, CONSTANT_MAP
from cocktail.tasks.localization.rules import ScoringRules
from cocktail.tasks.localization.scores import _LOCALIZATION_COLUMNS, LocalizationScores, _rules
from cocktail.tasks.localization.task import Localizing
from cocktail.tasks.scores import Scoreboard
from cocktail.tasks.separation.scores import _SEPARATION_COLUMNS, SeparationScores
from cocktail.tasks.separation.task import Separating
from cocktail.tasks.task import Task
from cocktail.types import Localizer, UsageError


def task_of(model: Any, evaluation: Evaluation, several_numbers: bool) -> Task:
    """What a model is for, tested as the settings say, on mixtures of one number of sources or of several."""
    if isinstance(model, Localizer):
        return Localizing(peak_share=evaluation.peak_share, fixed_threshold=evaluation.fixed_threshold)
    return Separating(metrics=evaluation.metrics, by_fuss_rule=several_numbers)


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


def is_control(system: str) -> bool:
    """Whether a system is no model's: the mixture, ideal masks, or maps that hear and see nothing."""
    return system.partition(",")[0] in ("mixture", CONSTANT_MAP, CENTRED_BOX) or system.startswith("ideal ")


def own_systems(results: pa.Table) -> list[str]:
    """The models in a table of results: neither controls nor, with a comma, other readings of a model."""
    return [name for name in results["system"].unique().to_pylist() if not is_control(name) and "," not in name]
