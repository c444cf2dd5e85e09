#!/usr/bin/env python
"""Keep results for a table of a document: python jobs/record_results.py RUN... --into docs/results/NAME

A RUN is an MLflow run's name or id, or SETTING=RUN, of a training or of jobs/evaluate.py; runs of one setting differ in
their seed alone. Writes NAME.json and NAME.parquet. `make results` writes the table wherever a document has the block
<!-- results: NAME -->.
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / part) for part in (".", "platform")]

import tyro

from cocktail.cluster.connection import one_line_errors
from cocktail.config.experiment import default_output, given_tracking_uri, require_name
from cocktail.studies.joined_results import joined
from cocktail.studies.recorded_results import RecordedResults
from cocktail.tracking.database import default_tracking_uri
from cocktail.types import UsageError
from pipelines.experiments.scored_runs import run_of_setting


@dataclass(frozen=True, kw_only=True)
class RecordResults:
    runs: tyro.conf.Positional[tuple[str, ...]]
    """Runs by name or id, each with its setting before it if it has one: SETTING=RUN."""
    into: str
    """Path of the results without an ending, as docs/results/NAME."""
    reference: str | None = None
    """Setting, or control, that others are compared with; None is the first run's setting, or that of what --add adds
    to."""
    scores: tuple[str, ...] = ()
    """Scores to keep besides the headline, such as sir si_sdri; none is all."""
    headlines: tuple[str, ...] = ()
    """Scores that lead their tables, with intervals and differences, one of a table: none is each task's own."""
    systems: tuple[str, ...] = ()
    """Readings and controls to keep besides the models, such as "soft masks" mixture; none is all."""
    add: bool = False
    """Add the runs to what --into has: other seeds of its settings, or other settings, run later or elsewhere. Give
    the same --scores, --headlines and --systems."""
    task: str | None = None
    """Task of the results, of runs that have several: separation or localization. None is the first."""
    tracking_uri: str | None = field(default_factory=given_tracking_uri)
    """MLflow server or database (MLFLOW_TRACKING_URI); None is mlflow.db in COCKTAIL_OUTPUT, or in ~/cocktail."""


def main() -> None:
    job = tyro.cli(RecordResults, description=__doc__)
    into = Path(job.into)
    require_name("the NAME of --into", into.name)
    if job.add and job.reference is not None:
        raise UsageError("--reference is that of what is there: leave it out, or record all runs anew without --add")
    place = job.tracking_uri or default_tracking_uri(default_output())
    runs = [run_of_setting(named, place, job.task) for named in job.runs]
    before = RecordedResults.read(into.parent, into.name) if job.add else None
    elsewhere = () if before is None else before.kept
    chosen = {"scores": job.scores, "headlines": job.headlines, "systems": job.systems}
    results = RecordedResults.of(runs, job.reference, **chosen, elsewhere=elsewhere)
    if before is not None:
        results = joined(before, results)
    results.write(into.parent, into.name)
    print(f"{into}.json and {into}.parquet: {len(results.origins)} runs. In a document: <!-- results: {into.name} -->")


if __name__ == "__main__":
    with one_line_errors():
        main()
