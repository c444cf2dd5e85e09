#!/usr/bin/env python
"""Compare systems on the mixtures that all were scored on: python jobs/compare.py RUN RUN ... [--into FOLDER]

A run is an MLflow run's name or id, models:/NAME/VERSION or models:/NAME@best, or a results.parquet, or a folder that
holds one. Each is compared with the first.
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / part) for part in (".", "platform")]

import tyro

from cocktail.cluster.connection import one_line_errors
from cocktail.config.experiment import default_output, given_tracking_uri
from cocktail.inference.trained import load_trained
from cocktail.storage import absolute, list_names
from cocktail.studies.comparisons import sides_of, store_comparisons
from cocktail.studies.scored_run import ScoredRun, are_results, of_one_task, read_runs
from cocktail.tracking.database import default_tracking_uri
from cocktail.tracking.find import MODELS, find_run
from pipelines.experiments.scored_runs import read_scored_mixtures, scored_runs


@dataclass(frozen=True, kw_only=True)
class Compare:
    runs: tyro.conf.Positional[tuple[str, ...]]
    """Two runs or more: name or id in MLflow, registered model, file of results, or folder that holds one."""
    output: str = field(default_factory=default_output)
    """Folder of runs (COCKTAIL_OUTPUT sets the default)."""
    tracking_uri: str | None = field(default_factory=given_tracking_uri)
    """MLflow server or database (MLFLOW_TRACKING_URI sets the default); None is mlflow.db in the output folder."""
    into: str = "compared"
    """Folder for compare.md, compare.png, differences.parquet (a row a mixture), and pictures and sounds; of more than
    two runs, one in it for each that is compared with the first."""
    task: str | None = None
    """Task whose results are compared, of runs that have several: separation or localization. None is the first of
    these that all have."""
    score: str | None = None
    """Score that the figure shows, and that mixtures to look at are chosen by: sdr, sir, sar, si_sdr or si_sdri of
    separation; ap_1_sources, iou_1_sources, auc_1_sources, cap_2_sources, piap_2_sources, ciou_2_sources or
    auc_2_sources of localization. None is sdr, or auc of the most sources."""
    systems: tuple[str, ...] = ()
    """System of each run, in their order, as its results name it, such as "NAME, soft masks" or "mixture"; `own` is the
    run's own, which is taken of all where none are given."""
    examples: int = 3
    """Mixtures to look at, of the largest differences and of the smallest."""
    data: str | None = None
    """Folder or URI of the shards, if they are no longer where the runs found them."""


def open_run(name: str, job: Compare) -> list[ScoredRun]:
    """The results of each task: those of a file or folder if it is one's name, else of MLflow."""
    if not name.startswith(MODELS) and (
        "/" in name or name.endswith(".parquet") or any(map(are_results, list_names(name)))
    ):
        return read_runs(absolute(name, "RUN"))
    uri = job.tracking_uri or default_tracking_uri(absolute(job.output, "--output"))
    return scored_runs(find_run(uri, name), job.data)


def main() -> None:
    job = tyro.cli(Compare, description=__doc__)
    runs = of_one_task([open_run(name, job) for name in job.runs], job.task)
    sides = sides_of(runs, job.systems)
    into = Path(absolute(job.into, "--into"))
    print(
        store_comparisons(into, sides, job.score, job.examples, load_trained, read_scored_mixtures),
        f"\n\nwritten to {into}",
    )


if __name__ == "__main__":
    with one_line_errors():
        main()
