#!/usr/bin/env python
"""Write the tables of README.md and docs/*.md anew from docs/results: python jobs/fill_results.py [--check]"""

import sys
from dataclasses import dataclass
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / part) for part in (".", "platform")]

import tyro

from cocktail.cluster.connection import one_line_errors
from cocktail.studies.results_tables import fill_documents
from cocktail.types import UsageError

PROJECT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, kw_only=True)
class FillResults:
    project: str = str(PROJECT)
    """Folder of README.md and docs."""
    check: bool = False
    """Write nothing, and fail if a table is not what its results give."""


def main() -> None:
    job = tyro.cli(FillResults, description=__doc__)
    stale = fill_documents(Path(job.project), write=not job.check)
    if stale and job.check:
        raise UsageError(f"tables of {', '.join(stale)} are not what their results give: make results")
    print(f"written anew: {', '.join(stale)}" if stale else "all tables are what their results give")


if __name__ == "__main__":
    with one_line_errors():
        main()
