#!/usr/bin/env python
"""Shard MUSIC: the sound and pictures of its solos, duets or both, with boxes if they are given.

    ray job submit --working-dir . -- python jobs/shard_music.py --root FOLDER --solo JSON --shards FOLDER

Running it again does what is missing. Bad clips are set aside with a reason, in quarantine.parquet.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / part) for part in (".", "platform")]

import tyro

from pipelines.datasets.music import MusicSettings, index_released_music
from pipelines.shards.command_line import ShardJob, main
from pipelines.shards.plan import ShardSettings


@dataclass(frozen=True, kw_only=True)
class ShardMUSIC(ShardJob):
    root: str
    """Folder of audio/<class>/<id>.mp3 and frames/<class>/<id>.mp4/<six digits>.jpg."""
    solo: str | None = None
    """File MUSIC_solo_videos.json as released; None leaves solos out."""
    duet: str | None = None
    """File MUSIC_duet_videos.json as released; None leaves duets out."""
    music: tyro.conf.OmitArgPrefixes[MusicSettings]
    settings: tyro.conf.OmitArgPrefixes[ShardSettings] = ShardSettings(
        dataset="music", min_seconds=20.0, max_seconds=1800.0
    )


if __name__ == "__main__":
    main(ShardMUSIC, index_released_music, __doc__)
