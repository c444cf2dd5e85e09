#!/usr/bin/env python
"""Shard MUSDB18 or MUSDB18-HQ: every stem of every song, mono and resampled, into WebDataset shards.

    ray job submit --working-dir . -- python jobs/shard_musdb18.py --root FOLDER --shards FOLDER

Running it again does what is missing. Bad songs are set aside with a reason, in quarantine.parquet.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / part) for part in (".", "platform")]

import tyro

from pipelines.datasets.musdb18 import index_musdb18
from pipelines.shards.command_line import ShardJob, main
from pipelines.shards.plan import ShardSettings

# A stem may be silent for a whole song; crops of silence are avoided when mixtures are planned.
MUSDB18 = ShardSettings(dataset="musdb18", num_frames=0, max_seconds=1800.0, keep_silent=True)


@dataclass(frozen=True, kw_only=True)
class ShardMUSDB18(ShardJob):
    root: str
    """Folder that holds train/ and test/, each with <artist - title>/ of wav files or <artist - title>.stem.mp4."""
    settings: tyro.conf.OmitArgPrefixes[ShardSettings] = MUSDB18


if __name__ == "__main__":
    main(ShardMUSDB18, index_musdb18, __doc__)
