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
from cocktail.train.cluster import connect
from cocktail.types import UsageError
from pipelines.shards import ShardSettings, shard_dataset
from pipelines.vggsound import index_vggsound


@dataclass(frozen=True, kw_only=True)
class ShardVGGSound:
    """What to shard, and how."""

    csv: str
    """The released vggsound.csv: id, start second, label, split."""
    videos: str
    """Folder of <id>_<start, six digits>.mp4, on a disk that every node sees."""
    shards: str
    """Folder or s3:// URI to write to."""
    sample_rate_hz: int = ShardSettings.sample_rate_hz
    """Rate at which sound is stored, in Hz."""
    frames: int = ShardSettings.num_frames
    """Pictures kept of each clip; 1 is the middle one, 0 also takes clips without a video track."""
    picture_short_side: int = ShardSettings.picture_short_side
    """Pictures are shrunk to this, in pixels; never enlarged."""
    clips_per_shard: int = ShardSettings.clips_per_shard
    """Clips in one tar, at most."""
    min_seconds: float = ShardSettings.min_seconds
    """Clips with less sound are set aside, in seconds."""
    max_seconds: float = ShardSettings.max_seconds
    """Clips that declare more are set aside, in seconds."""
    max_bad_share: float = ShardSettings.max_bad_share
    """Share of clips set aside, 0 to 1, above which the run fails at its end."""
    seed: int = ShardSettings.seed
    """Decides which clips share a shard."""


def main() -> None:
    job = tyro.cli(ShardVGGSound, description=__doc__)
    try:
        settings = ShardSettings(
            dataset="vggsound",
            sample_rate_hz=job.sample_rate_hz,
            num_frames=job.frames,
            picture_short_side=job.picture_short_side,
            clips_per_shard=job.clips_per_shard,
            min_seconds=job.min_seconds,
            max_seconds=job.max_seconds,
            seed=job.seed,
            max_bad_share=job.max_bad_share,
        )
        index = index_vggsound(absolute(job.csv, "--csv"), absolute(job.videos, "--videos"))
        shard_dataset(index, settings, absolute(job.shards, "--shards"), connect)
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
