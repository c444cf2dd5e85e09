#!/usr/bin/env python
"""Shard a folder of sounds or videos of your own, by class, into WebDataset shards.

    ray job submit --working-dir . -- python jobs/shard_folder.py --root FOLDER --shards FOLDER

FOLDER holds CLASS/FILE, or CLASS/RECORDING/FILE where files were cut out of one recording; with --csv LIST a list says
the classes. Running it again does what is missing. Bad clips are set aside with a reason, in quarantine.parquet.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / part) for part in (".", "platform")]

import tyro

from pipelines.datasets.folder import FolderLayout, index_folder
from pipelines.shards.command_line import ShardJob, main
from pipelines.shards.plan import ShardSettings


@dataclass(frozen=True, kw_only=True)
class ShardFolder(ShardJob):
    root: str
    """Folder of classes, on a disk that every node sees, or in an object store; of the files, where there is a list."""
    csv: str | None = None
    """List of the files with a header line: file (below the root), class, and if there are any split, recording."""
    layout: tyro.conf.OmitArgPrefixes[FolderLayout] = FolderLayout()
    settings: tyro.conf.OmitArgPrefixes[ShardSettings] = ShardSettings(dataset="folder")


if __name__ == "__main__":
    main(ShardFolder, index_folder, __doc__)
