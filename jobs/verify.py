#!/usr/bin/env python
"""Verify shards: hash every member again and name each one that is damaged. Exit status 1 if there is any.

ray job submit --working-dir . -- python jobs/verify.py SHARDS
"""

import sys
from dataclasses import dataclass
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / part) for part in (".", "platform")]

import tyro

from cocktail.cluster.connection import connect, one_line_errors
from cocktail.storage import absolute
from pipelines.shards.verify import verify_and_report


@dataclass(frozen=True, kw_only=True)
class Verify:
    shards: tyro.conf.Positional[str]
    """Folder or s3:// URI of the shards."""
    delete_damaged: bool = False
    """Delete the shards that are damaged, and the manifest, so that the sharding job makes them again."""
    tasks: int | None = None
    """Shards read at a time; None: as many as the cluster has CPUs."""


def main() -> None:
    with one_line_errors():
        job = tyro.cli(Verify, description=__doc__)
        connect()
        sys.exit(not verify_and_report(absolute(job.shards, "SHARDS"), job.tasks, job.delete_damaged))


if __name__ == "__main__":
    main()
