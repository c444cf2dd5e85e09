#!/usr/bin/env python
"""Shard VGG-SS: the clips whose sounding objects were marked, each with its middle frame and the boxes on it.

ray job submit --working-dir . -- python jobs/shard_vggss.py --vggss JSON --videos FOLDER --shards FOLDER
"""

import sys
from dataclasses import dataclass
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / part) for part in (".", "platform")]

import tyro

from pipelines.datasets.vggss import index_vggss
from pipelines.shards.command_line import ShardJob, main
from pipelines.shards.plan import ShardSettings


@dataclass(frozen=True, kw_only=True)
class ShardVGGSS(ShardJob):
    vggss: str
    """File vggss.json as released."""
    videos: str
    """Folder of <id>_<start, six digits>.mp4, on a disk that every node sees, or in an object store."""
    csv: str | None = None
    """File vggsound.csv as released, to check that all items are test clips of the same class."""
    masks: str | None = None
    """Folder of <id>_<start, six digits>.png (or .npy, or pickled arrays, .pkl), exact masks of the middle frames."""
    single: str | None = None
    """File of AVGN's list, item and class: only the items on it are taken."""
    duet: str | None = None
    """File of AVGN's list of what to mix each item with: item, class, partner, partner's class."""
    settings: tyro.conf.OmitArgPrefixes[ShardSettings] = ShardSettings(dataset="vggss", num_frames=1)


if __name__ == "__main__":
    main(ShardVGGSS, index_vggss, __doc__)
