#!/usr/bin/env python
"""Shard Flickr-SoundNet's test set: frames in which several people marked what sounds, without classes.

ray job submit --working-dir . -- python jobs/shard_flickr_soundnet.py --root FOLDER --annotations FOLDER \\
    --test-list CSV --shards FOLDER

Models are tested on it with --mixing.no-distinct-classes, as no clip has a class.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / part) for part in (".", "platform")]

import tyro

from pipelines.datasets.flickr_soundnet import index_flickr_soundnet
from pipelines.shards.command_line import ShardJob, main
from pipelines.shards.plan import ShardSettings


@dataclass(frozen=True, kw_only=True)
class ShardFlickrSoundNet(ShardJob):
    root: str
    """Folder of frames/<id>.jpg and audio/<id>.wav."""
    annotations: str
    """Folder of <id>.xml."""
    test_list: str
    """File with an id a line: flickr_test.csv, the 250 that are tested."""
    agreement: int = 2
    """Boxes that have to cover a place for it to be an object's: 2, or 1."""
    settings: tyro.conf.OmitArgPrefixes[ShardSettings] = ShardSettings(dataset="flickr_soundnet", num_frames=1)


if __name__ == "__main__":
    main(ShardFlickrSoundNet, index_flickr_soundnet, __doc__)
