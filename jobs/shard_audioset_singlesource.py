#!/usr/bin/env python
"""Shard AudioSet-SingleSource: clips in which one object sounds, for evaluation, into WebDataset shards.

    ray job submit --working-dir . -- python jobs/shard_audioset_singlesource.py --root FOLDER --shards FOLDER

Running it again does what is missing. Bad clips are set aside with a reason, in quarantine.parquet.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / part) for part in (".", "platform")]

import tyro

from pipelines.datasets.audioset_singlesource import index_audioset_singlesource
from pipelines.shards.command_line import ShardJob, main
from pipelines.shards.plan import ShardSettings

SINGLESOURCE = ShardSettings(dataset="audioset-singlesource")


@dataclass(frozen=True, kw_only=True)
class ShardAudioSetSingleSource(ShardJob):
    root: str
    """Folder that holds <label>/<clip>, clips with or without pictures."""
    settings: tyro.conf.OmitArgPrefixes[ShardSettings] = SINGLESOURCE


if __name__ == "__main__":
    main(ShardAudioSetSingleSource, index_audioset_singlesource, __doc__)
