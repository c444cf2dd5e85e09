"""A run's results, what is known of the run, and the model and mixtures that they are of."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from cocktail.config.mixing import Mixing
from cocktail.foreign.bounded import UntrustworthyError, parse_parquet
from cocktail.storage import list_names, read_bytes
from cocktail.tasks.choice import TASKS, task_of_results
from cocktail.tasks.rows import MODEL, systems_of
from cocktail.tasks.scores import Scoreboard
from cocktail.tasks.task import Task
from cocktail.types import MixtureBatch, UsageError

RESULTS_NAME, TEST_LIST_NAME = "results.parquet", "test_list.parquet"
_OF_A_TASK = re.compile(r"results_(\w+)\.parquet")
LENGTHS = ("sample_rate_hz", "segment_samples")
"""Settings of `Mixing` that decide how much sound a row of a test list stands for."""


@dataclass(frozen=True, kw_only=True)
class ScoredRun:
    """Results, and what is known of the run that they are of."""

    results: pa.Table
    """RESULTS of `cocktail.tasks.separation.results`, or LOCALIZATION_RESULTS."""
    name: str
    stored: str
    """Folder or URI of whatever else was stored with the results."""
    test_list: pa.Table | None = None
    """Rows of the plan of the test mixtures."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """What is known of `checkpoint` (of the weights scored), `data` (where the shards lie), and `test_list_hash`."""
    params: Mapping[str, str] = field(default_factory=dict)
    """What is known of the settings, by dotted path, as text."""

    @classmethod
    def read(cls, location: str) -> ScoredRun:
        """The run of a file of results, with the test list beside it. Raises UsageError for other files."""
        folder, _, name = location.rpartition("/")
        try:
            results = _read_parquet(location)
        except FileNotFoundError as error:
            raise UsageError(f"there is no {location}: give an MLflow run, or a file of results") from error
        try:
            task_of_results(results)
        except UsageError as error:
            raise UsageError(f"{location}: {error}") from error
        try:
            test_list = _read_parquet(f"{folder}/{TEST_LIST_NAME}")
        except FileNotFoundError:
            test_list = None
        return cls(results=results, name=location, stored=report_folder(folder, name), test_list=test_list)

    @property
    def settings(self) -> dict[str, str]:
        """All that is known of the settings and tests: what a run was tested on may be among its tags."""
        return {**self.tags, **self.params}

    @property
    def task(self) -> Task:
        """What its results are of. Raises UsageError where they do not say, as those of earlier versions."""
        try:
            return task_of_results(self.results)
        except UsageError as error:
            raise UsageError(f"{self.name}: {error}") from error

    @property
    def board(self) -> Scoreboard:
        """How its results are read."""
        return self.task.scoreboard(self.results)

    @property
    def own_system(self) -> str:
        """The model's name in its results. Raises UsageError if there is not exactly one."""
        own = systems_of(self.results, MODEL)
        if len(own) != 1:
            raise UsageError(f"the results of {self.name} hold {len(own)} models, and a run has one: {', '.join(own)}")
        return own[0]


def results_names(tasks: Sequence[str]) -> list[str]:
    """The files that results of a run's tasks are stored as: results.parquet, or results_<task>.parquet of several."""
    return [RESULTS_NAME] if len(tasks) == 1 else [f"results_{task}.parquet" for task in tasks]


def are_results(name: str) -> bool:
    """Whether a file's name is one of `results_names`."""
    return name == RESULTS_NAME or _OF_A_TASK.fullmatch(name) is not None


def report_folder(stored: str, name: str) -> str:
    """Where the report of results that are stored as a name lies: of several tasks, in a folder for each."""
    of_task = _OF_A_TASK.fullmatch(name)
    return stored if of_task is None else f"{stored}/{of_task.group(1)}"


def read_runs(location: str) -> list[ScoredRun]:
    """The results in a file, or of all tasks in a folder. Raises UsageError if there are none."""
    if location.endswith(".parquet"):
        return [ScoredRun.read(location)]
    names = [name for name in list_names(location) if are_results(name)] or [RESULTS_NAME]
    return in_order([ScoredRun.read(f"{location}/{name}") for name in names])


def in_order(runs: Sequence[ScoredRun]) -> list[ScoredRun]:
    """The results of one run in the order of tasks: the first of them stand for the run where one task has to."""
    return sorted(runs, key=lambda run: list(TASKS).index(run.task.name))


def of_one_task(runs: Sequence[Sequence[ScoredRun]], task: str | None = None) -> list[ScoredRun]:
    """The results of a task that each of some runs has: of a chosen one, or of the first that all have.

    Raises UsageError if there is none.
    """
    by_task = [{run.task.name: run for run in of_run} for of_run in runs]
    common = [name for name in by_task[0] if all(name in each for each in by_task) and task in (None, name)]
    if not common:
        wanted = "" if task is None else f" of {task}"
        having = ", ".join(
            f"{of_run[0].name} has {', '.join(each)}" for of_run, each in zip(runs, by_task, strict=True)
        )
        raise UsageError(f"there are no results{wanted} of all to compare: {having}")
    return [each[common[0]] for each in by_task]


def _read_parquet(location: str) -> pa.Table:
    try:
        return parse_parquet(read_bytes(location))
    except UntrustworthyError as error:
        raise UsageError(f"{location} {error}") from error


LoadTrained = Callable[[str], Any]
"""Loads a `cocktail.inference.trained.Trained` from the location of a checkpoint."""
ReadMixtures = Callable[[ScoredRun, pa.Table, Mixing], MixtureBatch]
"""Reads the mixtures of rows of a run's test list out of its shards."""


def load_model(run: ScoredRun, load: LoadTrained) -> Any:
    """The trained model that was scored. Raises UsageError if it, or what it takes to use it, is not there."""
    if missing := {"checkpoint", "data"} - run.tags.keys():
        raise UsageError(f"where its {' and '.join(sorted(missing))} lie is not known of {run.name}")
    if run.test_list is None:
        raise UsageError(f"{run.name} has no {TEST_LIST_NAME}")
    return load(run.tags["checkpoint"])


def read_scored(
    run: ScoredRun, mixture_ids: Sequence[str], mixing: Mixing, read: ReadMixtures
) -> tuple[MixtureBatch, Mixing]:
    """Mixtures that a run was scored on, in its test list's order, and how they are mixed where training did so.

    Raises UsageError if the run's test list is of others, or if the mixtures cannot be read.
    """
    assert run.test_list is not None
    rows = run.test_list.filter(pc.field("mixture_id").isin(list(mixture_ids)))
    if len(rows) != len(mixture_ids):
        raise UsageError(f"the {TEST_LIST_NAME} of {run.name} lists other mixtures than it has scores of")
    scored: dict[str, Any] = {
        name: int(run.params[f"mixing.{name}"]) for name in LENGTHS if f"mixing.{name}" in run.params
    }
    for arrangement in (run.settings.get(f"{part}.arrangement", "None") for part in ("mixing", "evaluation")):
        scored |= {} if arrangement == "None" else {"arrangement": arrangement}
    mixing = replace(mixing, **scored)
    counted = rows["class_id" if mixing.arrangement == "whole" else "clip_id"]
    mixing = replace(mixing, num_sources=max(map(len, counted.to_pylist())), min_sources=1)
    return read(run, rows, mixing), mixing
