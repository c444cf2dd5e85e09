#!/usr/bin/env python
"""Describe a finished data set: tables of what it holds and of what was set aside, figures, and a few of its clips.

ray job submit --working-dir . -- python jobs/describe.py SHARDS
"""

import sys
from dataclasses import dataclass
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / part) for part in (".", "platform")]

import tyro

from cocktail.cluster.connection import one_line_errors
from cocktail.storage import absolute
from pipelines.describe.tables import describe


@dataclass(frozen=True, kw_only=True)
class Describe:
    shards: tyro.conf.Positional[str]
    """Folder or s3:// URI of finished shards."""
    into: str | None = None
    """Folder or s3:// URI for the csv files and figures; None: the folder describe/ among the shards."""
    num_clips: int = 12
    """Clips drawn at random for pictures and for spectrograms, at most; 0: none."""
    seed: int = 0
    """Seed that the clips are drawn with."""
    spectra_split: str | None = "train"
    """Split, or a part as 'train[:10%]', of whose clips the mean spectrum of each class is measured: all their sound is
    read, on the cluster. None: of no clip."""


def main() -> None:
    with one_line_errors():
        job = tyro.cli(Describe, description=__doc__)
        into = job.into and absolute(job.into, "--into")
        describe(absolute(job.shards, "SHARDS"), into, job.num_clips, job.seed, job.spectra_split)


if __name__ == "__main__":
    main()
