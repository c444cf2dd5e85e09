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

from pipelines.datasets.vggsound import index_vggsound
from pipelines.shards.command_line import ShardJob, main
from pipelines.shards.plan import ShardSettings


@dataclass(frozen=True, kw_only=True)
class ShardVGGSound(ShardJob):
    csv: str
    """File vggsound.csv as released: id, start second, label, split."""
    videos: str
    """Folder of <id>_<start, six digits>.mp4, on a disk that every node sees, or in an object store."""
    vggss: str | None = None
    """File vggss.json as released: only the classes that occur in it are taken, the 221 of SGN and AVGN."""
    settings: tyro.conf.OmitArgPrefixes[ShardSettings] = ShardSettings(dataset="vggsound")


if __name__ == "__main__":
    main(ShardVGGSound, index_vggsound, __doc__)
