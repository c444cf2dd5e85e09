#!/usr/bin/env python
"""Report a sweep: python jobs/report_sweep.py PARENT [--into FOLDER] [--examples N]

PARENT is the name or id of the sweep's run in MLflow. Writes report.html, one page that needs nothing else, and
report.md with its pictures and sounds. A sweep reports itself when it ends, into its run's artifacts; this does so
again, at any time, of what there is.
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / part) for part in (".", "platform")]

import tyro

from cocktail.cluster.connection import one_line_errors
from cocktail.config.experiment import default_output, given_tracking_uri
from cocktail.report.page import PAGE_NAME
from cocktail.storage import absolute
from cocktail.tracking.database import default_tracking_uri
from cocktail.tracking.find import find_run
from pipelines.sweeps.report import DEFAULT_EXAMPLES, report


@dataclass(frozen=True, kw_only=True)
class ReportSweep:
    parent: tyro.conf.Positional[str]
    """Name or id of the sweep's run in MLflow."""
    tracking_uri: str | None = field(default_factory=given_tracking_uri)
    """MLflow server or database (MLFLOW_TRACKING_URI sets the default); None is mlflow.db in the output folder."""
    into: str = "report"
    """Folder for report.html, report.md, pictures and sounds."""
    output: str = field(default_factory=default_output)
    """Folder of runs (COCKTAIL_OUTPUT sets the default)."""
    data: str | None = None
    """Folder or URI of the shards, if they are no longer where the trials found them."""
    examples: int = DEFAULT_EXAMPLES
    """Mixtures to look at and listen to: of the best, of the worst, and of the largest differences."""


def main() -> None:
    job = tyro.cli(ReportSweep, description=__doc__)
    folder = Path(absolute(job.into, "--into"))
    parent = find_run(job.tracking_uri or default_tracking_uri(absolute(job.output, "--output")), job.parent)
    report(parent, folder, job.data, job.examples)
    print(f"{folder / PAGE_NAME}")


if __name__ == "__main__":
    with one_line_errors():
        main()
