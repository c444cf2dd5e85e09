#!/usr/bin/env python
"""Shard IS3: synthetic scenes of two objects, each with its own sound, and the place of each. For tests only.

ray job submit --working-dir . -- python jobs/shard_is3.py --root FOLDER --shards FOLDER
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / part) for part in (".", "platform")]

import tyro

from pipelines.datasets.is3 import index_is3
from pipelines.shards.command_line import ShardJob, main
from pipelines.shards.plan import ShardSettings


@dataclass(frozen=True, kw_only=True)
class ShardIS3(ShardJob):
    root: str
    """Folder as released: images, audio_waw, gt_segmentation, IS3_annotation.json."""
    annotations: str | None = None
    """List of {image, audio, gt_box}; None takes IS3_annotation.json of the folder."""
    truth: Literal["boxes", "masks"] = "boxes"
    """Where the objects are: in their boxes, or in the pixels of gt_segmentation."""
    settings: tyro.conf.OmitArgPrefixes[ShardSettings] = ShardSettings(dataset="is3", num_frames=1)


if __name__ == "__main__":
    main(ShardIS3, index_is3, __doc__)
