"""The report of a sweep, out of MLflow and into it."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from cocktail.inference.trained import load_trained
from cocktail.report.page import PAGE_NAME
from cocktail.studies.paper import PAPER_NAME, Paper
from cocktail.studies.scored_run import ScoredRun, are_results
from cocktail.studies.sweep import Sweep
from cocktail.studies.sweep_report import report_sweep
from cocktail.tracking.find import find_run
from cocktail.tracking.run import TrackedRun
from pipelines.experiments.scored_runs import read_scored_mixtures, scored_runs

DEFAULT_EXAMPLES = 2


def store_sweep_report(
    tracking_uri: str, parent: str, *, data: str | None = None, examples: int = DEFAULT_EXAMPLES
) -> str:
    """Store the report of a sweep, by its run's name or id, in the artifacts of its run. Returns the page's place."""
    tracked = find_run(tracking_uri, parent)
    with tempfile.TemporaryDirectory() as folder:
        report(tracked, Path(folder, "report"), data, examples)
        tracked.store(Path(folder))
    return f"{tracked.artifacts}/report/{PAGE_NAME}"


def report(parent: TrackedRun, folder: Path, data: str | None, examples: int) -> None:
    """Write the report of a sweep into a folder."""

    def scored(trial: TrackedRun) -> ScoredRun | None:
        """The trial's results; of several tasks those of the first, which stands for the others."""
        return scored_runs(trial, data)[0] if any(map(are_results, trial.stored)) else None

    sweep = Sweep.of(parent, parent.children, scored, recorded_paper(parent))
    report_sweep(folder, sweep, examples, load_trained, read_scored_mixtures)


def recorded_paper(parent: TrackedRun) -> Paper | None:
    """The paper that a sweep recorded; None of sweeps that did not."""
    if PAPER_NAME not in parent.stored:
        return None
    with tempfile.TemporaryDirectory() as folder:
        return Paper.of_record(json.loads(parent.fetch(PAPER_NAME, Path(folder)).read_text("utf-8")))
