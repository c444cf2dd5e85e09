#!/usr/bin/env python
"""Shard VGG-Sound: decode a folder of downloaded clips once, into the WebDataset shards that training reads.

    ray job submit --working-dir . -- python jobs/shard_vggsound.py --csv CSV --videos FOLDER --shards FOLDER

Running it again does what is missing. Bad clips are set aside with a reason, in quarantine.parquet.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / part) for part in (".", "platform")]

import tyro

from cocktail.storage import absolute
from cocktail.train.cluster import connect, one_line_errors
from pipelines.shards import ShardSettings, shard_dataset
from pipelines.vggsound import index_vggsound

VGGSOUND = ShardSettings(dataset="vggsound")


@dataclass(frozen=True, kw_only=True)
class ShardVGGSound:
    """What to shard, and how."""

    csv: str
    """The released vggsound.csv: id, start second, label, split."""
    videos: str
    """Folder of <id>_<start, six digits>.mp4, on a disk that every node sees."""
    shards: str
    """Folder or s3:// URI to write to."""
    settings: tyro.conf.OmitArgPrefixes[ShardSettings] = VGGSOUND


def main() -> None:
    with one_line_errors():
        job = tyro.cli(ShardVGGSound, description=__doc__)
        index = index_vggsound(absolute(job.csv, "--csv"), absolute(job.videos, "--videos"))
        shard_dataset(index, job.settings, absolute(job.shards, "--shards"), connect)


if __name__ == "__main__":
    main()
