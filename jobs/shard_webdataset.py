#!/usr/bin/env python
"""Shard other people's WebDataset shards anew: verified, dealt, at one rate, with splits, as training reads them.

    ray job submit --working-dir . -- python jobs/shard_webdataset.py --shards-in 'FOLDER/train-{000..041}.tar' \\
        --label json:label --shards FOLDER

Which members are the sound, the picture and the label is said by their endings. Running it again does what is missing.
Bad samples are set aside with a reason, in quarantine.parquet. Nothing in them is unpickled.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / part) for part in (".", "platform")]

import tyro

from pipelines.datasets.webdataset_shards import Members, index_webdataset
from pipelines.shards.command_line import ShardJob, main
from pipelines.shards.plan import ShardSettings


@dataclass(frozen=True, kw_only=True)
class ShardWebDataset(ShardJob):
    shards_in: str
    """Folder of tars, or their names with braces, on a disk that every node sees, or in an object store."""
    members: tyro.conf.OmitArgPrefixes[Members] = Members()
    settings: tyro.conf.OmitArgPrefixes[ShardSettings] = ShardSettings(dataset="webdataset", num_frames=0)


if __name__ == "__main__":
    main(ShardWebDataset, index_webdataset, __doc__)
