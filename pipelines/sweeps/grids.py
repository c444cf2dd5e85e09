"""What a sweep runs: grids over the settings of an experiment, and the trials that they come to. Pure functions."""

from __future__ import annotations

import contextlib
import difflib
import io
import itertools
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from typing import Any

import tyro

from cocktail.config.experiment import Experiment
from cocktail.config.settings import flatten
from cocktail.types import UsageError

_OF_THE_WHOLE_SWEEP = ("name", "output", "tracking_uri", "run_name")
_MAX_SLUG = 80
_YES_OR_NO = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of a grid."""

    label: str
    settings: Mapping[str, str]
    """What it sets, by dotted path, as on a command line."""


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Rows that set the same settings to different values, in the order in which they are shown."""

    title: str
    rows: tuple[Row, ...]

    @property
    def paths(self) -> list[str]:
        """The dotted paths that it varies."""
        return list(dict.fromkeys(path for row in self.rows for path in row.settings))

    def times(self, other: Grid) -> Grid:
        """Each of these rows with each of the other's. Raises UsageError if both set the same."""
        twice = sorted(set(self.paths) & set(other.paths))
        if twice:
            raise UsageError(f"{twice[0]} is varied twice, by {self.title} and by {other.title}: leave one of them out")
        rows = [
            Row(label=f"{ours.label}, {theirs.label}", settings={**ours.settings, **theirs.settings})
            for ours, theirs in itertools.product(self.rows, other.rows)
        ]
        return Grid(title=f"{self.title} x {other.title}", rows=tuple(rows))


@dataclass(frozen=True, kw_only=True)
class PlannedTrial:
    """An experiment of a sweep."""

    label: str
    overrides: dict[str, Any]
    """All that it sets differently from, or explicitly as, the base: values by dotted path."""
    experiment: Experiment
    stages: tuple[str, ...] = ()
    """Stages of a model that learns in several (`pipelines.experiments.stages`)."""


def parse_axis(text: str) -> Grid:
    """The grid of one `PATH=V1,V2,...`. Raises UsageError if it is not of that form."""
    path, equals, values = text.partition("=")
    path = path.strip().removeprefix("--").replace("-", "_")
    if not equals or not path:
        raise UsageError(f"--over {text}: expected PATH=V1,V2,... such as --over training.learning-rate=1e-3,1e-4")
    return axis(path, [value.strip() for value in values.split(",")])


def axis(path: str, values: Sequence[str]) -> Grid:
    """The grid of one setting."""
    name = path.rpartition(".")[2]
    return Grid(title=path, rows=tuple(Row(label=f"{name} {value}", settings={path: value}) for value in values))


def combine(grids: Sequence[Grid], axes: Sequence[Grid]) -> list[Grid]:
    """Each grid times all axes; without a grid, the axes' product."""
    if not grids:
        grids, axes = axes[:1], axes[1:]
    combined = []
    for grid in grids:
        for other in axes:
            grid = grid.times(other)
        combined.append(grid)
    return combined


def plan_trials(
    experiment_type: Any, base: Experiment, grids: Sequence[Grid]
) -> tuple[list[PlannedTrial], list[list[PlannedTrial]]]:
    """The trials of all grids, and the trial of each row of each grid.

    Rows that come to the same experiment are one trial, which bears the labels of all. Raises UsageError, in one line,
    for a setting that does not exist or a value that it does not take.
    """
    rows = [
        (row, apply(experiment_type, base, row.settings, f"trial {row.label}")) for grid in grids for row in grid.rows
    ]
    trials: dict[Experiment, PlannedTrial] = {}
    for experiment in dict.fromkeys(planned for _, planned in rows):
        same = [row for row, planned in rows if planned == experiment]
        values = flatten(asdict(experiment))
        trials[experiment] = PlannedTrial(
            label=" = ".join(dict.fromkeys(row.label for row in same)),
            overrides={path: values[path] for row in same for path in row.settings},
            experiment=experiment,
        )
    placed = iter(trials[experiment] for _, experiment in rows)
    return list(trials.values()), [[next(placed) for _ in grid.rows] for grid in grids]


def apply(experiment_type: Any, base: Experiment, settings: Mapping[str, str], where: str) -> Experiment:
    """The base with settings changed, read and checked as the command line's are. Raises UsageError."""
    known = flatten(asdict(base))
    arguments: list[str] = []
    for path, value in settings.items():
        if path in _OF_THE_WHOLE_SWEEP:
            raise UsageError(f"{path} is the whole sweep's: give --{path.replace('_', '-')} once, not in --over")
        if path not in known:
            close = difflib.get_close_matches(path, known, n=1, cutoff=0.4)
            same_name = [other for other in known if other.rpartition(".")[2] == path.rpartition(".")[2]]
            meant = (same_name or close or [""])[0]
            raise UsageError(f"there is no setting {path}" + (f": is {meant} meant?" if meant else ""))
        arguments += _as_arguments(path, value, known[path])
    shown = io.StringIO()
    try:
        with contextlib.redirect_stderr(shown), contextlib.redirect_stdout(shown):
            return tyro.cli(experiment_type, args=arguments, default=base)
    except SystemExit as error:
        raise UsageError(f"{where}: {_message_in(shown.getvalue())}") from error


def _as_arguments(path: str, value: str, present: Any) -> list[str]:
    option = path.replace("_", "-")
    if isinstance(present, bool):
        if value.lower() not in _YES_OR_NO:
            raise UsageError(f"{path} is true or false, not {value}")
        parent, dot, name = option.rpartition(".")
        return [f"--{option}" if _YES_OR_NO[value.lower()] else f"--{parent}{dot}no-{name}"]
    return [f"--{option}", *value.split()]


def _message_in(box: str) -> str:
    """What the parser says inside the first part of its box, as one line."""
    parts = re.split(r"\n[^\w\n]*(?:-{8,}|─{8,})[^\w\n]*\n", box)
    text = parts[1] if len(parts) > 1 else box
    return " ".join(text.replace("│", " ").split()).removeprefix("Error parsing ")


def slugs(labels: Sequence[str]) -> list[str]:
    """Labels as parts of file names, all different, each a function of the labels alone."""
    plain = [re.sub(r"[^a-z0-9._]+", "-", label.lower()).strip("-") for label in labels]
    counts = Counter(plain)
    return [
        slug if counts[slug] == 1 and 0 < len(slug) <= _MAX_SLUG else f"{slug[:_MAX_SLUG]}-{_digest(label)}"
        for slug, label in zip(plain, labels, strict=True)
    ]


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:8]


def named(trials: Sequence[PlannedTrial], sweep: str) -> list[PlannedTrial]:
    """The trials with the names of their runs, which the sweep's name and their labels decide."""
    return [
        replace(trial, experiment=replace(trial.experiment, run_name=f"{sweep}-{slug}"))
        for trial, slug in zip(trials, slugs([trial.label for trial in trials]), strict=True)
    ]
