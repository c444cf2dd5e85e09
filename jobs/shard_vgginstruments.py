#!/usr/bin/env python
"""Shard VGGSound-Instruments: the train clips of its 37 classes and, if given, the frames marked for tests.

ray job submit --working-dir . -- python jobs/shard_vgginstruments.py --csv CSV --videos FOLDER --shards FOLDER
"""

import sys
from dataclasses import dataclass
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / part) for part in (".", "platform")]

import tyro

from pipelines.datasets.vgginstruments import index_vgginstruments
from pipelines.shards.command_line import ShardJob, main
from pipelines.shards.plan import ShardSettings


@dataclass(frozen=True, kw_only=True)
class ShardVGGInstruments(ShardJob):
    csv: str
    """File vggsound.csv as released: id, start second, label, split."""
    videos: str
    """Folder of <id>_<start, six digits>.mp4, on a disk that every node sees, or in an object store."""
    test: str | None = None
    """Folder of the marked frames: frames/<sample>.jpg, audio/<sample>.wav, masks/<sample>."""
    test_list: str | None = None
    """File of AVGN's list: sample, class."""
    multi: str | None = None
    """File of AVGN's list of what to mix each sample with: sample, class, partner, partner's class."""
    exclude: str | None = None
    """Text file with a clip id a line: train clips to leave out, as those that the marked frames were drawn from."""
    settings: tyro.conf.OmitArgPrefixes[ShardSettings] = ShardSettings(dataset="vgginstruments")


if __name__ == "__main__":
    main(ShardVGGInstruments, index_vgginstruments, __doc__)
