"""Which tasks there are, and which a model or a table of results is of."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from cocktail.config.evaluation import Evaluation
from cocktail.config.mixing import Mixing
from cocktail.tasks.localization.task import Localizing
from cocktail.tasks.rows import TASK_KEY
from cocktail.tasks.separation.task import Separating
from cocktail.tasks.task import Task
from cocktail.types import UsageError

TASKS = {task.name: task for task in (Separating, Localizing)}
"""All tasks by name; where one has to stand for several, the first."""


def tasks_of(model: Any, evaluation: Evaluation, mixing: Mixing, several_numbers: bool = False) -> tuple[Task, ...]:
    """All that a model can do and mixtures can test, tested as the settings say.

    `mixing` is how the mixtures are made; they have one number of sources, or several. Raises UsageError if there is
    nothing.
    """
    candidates = [task.of(model, evaluation, mixing, several_numbers) for task in TASKS.values()]
    tasks = tuple(task for task in candidates if task is not None)
    if not tasks:
        raise UsageError(
            f"a {type(model).__name__} does nothing that such mixtures test: separating takes a reference of each "
            "source (no --mixing.arrangement whole), localizing takes each source's own picture "
            "(--mixing.pictures-per-source 1, all of them shown, none lent)"
        )
    return tasks


def task_of_results(results: pa.Table) -> Task:
    """The task that a table of results is of, with the rules by which they came about, as the table itself says.

    Raises UsageError for a table that does not say so, or is of earlier versions.
    """
    name = (results.schema.metadata or {}).get(TASK_KEY, b"").decode(errors="replace")
    if name not in TASKS or "kind" not in results.column_names:
        raise UsageError(
            "it is no table of results of this version, which say of what task and kind they are: score the "
            "checkpoint again with jobs/evaluate.py"
        )
    task = TASKS[name].of_results(results)
    for column in {"mixture_id", "system", "kind", *results.column_names} & set(task.results.names):
        written = results.schema.field(column).type if column in results.column_names else None
        if written != task.results.field(column).type:
            raise UsageError(
                f"its column {column} is {written or 'not there'}, and not {task.results.field(column).type}: score "
                "the checkpoint again with jobs/evaluate.py"
            )
    return task
