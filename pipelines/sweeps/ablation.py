"""The command line of a job that sweeps over a paper's ablations."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Generic

import tyro

from cocktail.cluster.connection import one_line_errors
from cocktail.config.experiment import Experiment
from cocktail.config.model import ModelT
from cocktail.studies.paper import Paper, PaperTable
from cocktail.types import UsageError
from pipelines.experiments.command_line import parse
from pipelines.sweeps.grids import Grid, Row
from pipelines.sweeps.options import SweepOptions
from pipelines.sweeps.sweep import sweep

BOTH = "both"


@dataclass(frozen=True, kw_only=True)
class Ablation(Generic[ModelT]):
    """What the command line of such a job asks for."""

    grid: str | None = None
    """Table of the paper by its word above, or both, and what is in both once. None is the first, or, with --over, no
    other grid than that."""
    options: Annotated[SweepOptions, tyro.conf.arg(name="")] = field(default_factory=SweepOptions)
    experiment: Annotated[Experiment[ModelT], tyro.conf.arg(name="")]


def ablate(paper: Paper, *, recipe: Experiment, demo: Experiment, description: str | None) -> None:
    """Sweep over tables of a paper, or over settings of the user's choice, and turn a user's mistake into one line.

    `recipe` is the paper's experiment, `demo` what takes its place where no data is given.
    """
    with one_line_errors():
        listed = "\n".join(f"--grid {table.word}: {table.title}" for table in paper.tables)
        asked = parse(
            Ablation[type(recipe.model)],
            sys.argv[1:],
            paper=Ablation(experiment=recipe),
            demo=Ablation(experiment=demo),
            description=f"{description}\n{listed}\n",
        )
        grids = grids_of(paper, asked.grid, is_default=not asked.options.over)
        sweep(Experiment[type(recipe.model)], asked.experiment, grids, asked.options, paper)


def grids_of(paper: Paper, word: str | None, *, is_default: bool) -> list[Grid]:
    """The grids of the tables that a word names. Without a word that of the first, if there is a default.

    Raises UsageError for a word that names none.
    """
    tables = {table.word: [table] for table in paper.tables} | {BOTH: list(paper.tables)}
    if word is None:
        return _grids(paper.tables[:1]) if is_default else []
    if word not in tables:
        raise UsageError(f"--grid {word}: there is no such table; choose {', '.join(tables)}")
    return _grids(tables[word])


def _grids(tables: Sequence[PaperTable]) -> list[Grid]:
    return [
        Grid(title=table.name, rows=tuple(Row(label=row.label, settings=row.settings) for row in table.rows))
        for table in tables
    ]
