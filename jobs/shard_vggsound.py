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

from pipelines.datasets.vggss import index_with_boxes
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
    boxes: str | None = None
    """File of boxes in the layout of vggss.json, of any clips of the csv: VGG-SS's own, or a detector's of training
    clips. Of these clips the middle frame is stored, which the boxes are of."""
    settings: tyro.conf.OmitArgPrefixes[ShardSettings] = ShardSettings(dataset="vggsound")


if __name__ == "__main__":
    main(ShardVGGSound, index_with_boxes, __doc__)
