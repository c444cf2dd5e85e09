#!/usr/bin/env python
"""Compare two systems on the mixtures that both were scored on: python jobs/compare.py RUN_A RUN_B [--output FOLDER]

A run is an MLflow run's name or id, or a results.parquet, or a folder that holds one.
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
from cocktail.studies.comparison import Side, compare
from cocktail.studies.comparison_report import store_comparison
from cocktail.studies.scored_run import ScoredRun, are_results, of_one_task, read_runs
from cocktail.tracking.database import default_tracking_uri
from cocktail.tracking.find import find_run
from pipelines.experiments.scored_runs import read_scored_mixtures, scored_runs


@dataclass(frozen=True, kw_only=True)
class Compare:
    run_a: tyro.conf.Positional[str]
    """Run A: name or id in MLflow, file of results, or folder that holds one."""
    run_b: tyro.conf.Positional[str]
    """Run B, the same."""
    tracking_uri: str | None = field(default_factory=given_tracking_uri)
    """MLflow server or database (MLFLOW_TRACKING_URI); None is mlflow.db in COCKTAIL_OUTPUT, or in ~/cocktail."""
    output: str = "compared"
    """Folder for compare.md, compare.png, differences.parquet (a row a mixture), and pictures and sounds."""
    task: str | None = None
    """Task whose results are compared, of runs that have several: separation or localization. None is the first of
    these that both have."""
    score: str | None = None
    """Score that the figure shows, and that mixtures to look at are chosen by: sdr, sir, sar, si_sdr or si_sdri of
    separation; ap_1_sources, iou_1_sources, auc_1_sources, cap_2_sources, piap_2_sources, ciou_2_sources or
    auc_2_sources of localization. None is sdr, or auc of the most sources."""
    system_a: str | None = None
    """System of A as its results name it, such as "NAME, soft masks" or "mixture"; None is the run's own."""
    system_b: str | None = None
    """System of B, the same."""
    examples: int = 3
    """Mixtures to look at, of the largest differences and of the smallest."""
    data: str | None = None
    """Folder or URI of the shards, if they are no longer where the runs found them."""


def open_run(name: str, job: Compare) -> list[ScoredRun]:
    """The results of each task: those of a file or folder if it is one's name, else of MLflow."""
    if "/" in name or name.endswith(".parquet") or any(map(are_results, list_names(name))):
        return read_runs(absolute(name, "RUN"))
    return scored_runs(find_run(job.tracking_uri or default_tracking_uri(default_output()), name), job.data)


def main() -> None:
    job = tyro.cli(Compare, description=__doc__)
    a, b = of_one_task(open_run(job.run_a, job), open_run(job.run_b, job), job.task)
    comparison = compare(Side.of("A", a, job.system_a), Side.of("B", b, job.system_b))
    output = Path(absolute(job.output, "--output"))
    print(
        store_comparison(output, comparison, job.score, job.examples, load_trained, read_scored_mixtures),
        f"\n\nwritten to {output}",
    )


if __name__ == "__main__":
    with one_line_errors():
        main()
