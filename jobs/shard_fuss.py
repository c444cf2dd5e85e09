#!/usr/bin/env python
"""Shard FUSS: the sources of its mixtures. Reverberant: --root SSDATA_REVERB --dry SSDATA --dataset fuss-reverb.

ray job submit --working-dir . -- python jobs/shard_fuss.py --root SSDATA --fsd50k FOLDER --shards FOLDER
"""

import sys
from dataclasses import dataclass
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / part) for part in (".", "platform")]

import tyro

from pipelines.datasets.fuss import index_labelled_fuss
from pipelines.shards.command_line import ShardJob, main
from pipelines.shards.plan import ShardSettings


@dataclass(frozen=True, kw_only=True)
class ShardFUSS(ShardJob):
    root: str
    """Folder of the released ssdata or ssdata_reverb."""
    dry: str | None = None
    """Folder of the released ssdata, if root is ssdata_reverb: its .jams name the sources' recordings."""
    fsd50k: str | None = None
    """Folder of FSD50K, with FSD50K.metadata/collection/, which has the recordings' labels."""
    ontology: str | None = None
    """File ontology.json of AudioSet: of several labels, ancestors of the others are dropped."""
    labels: str | None = None
    """JSON file of labels to take in their place: {Freesound id: label}."""
    settings: tyro.conf.OmitArgPrefixes[ShardSettings] = ShardSettings(
        dataset="fuss", sample_rate_hz=16000, num_frames=0, keep_silent=True, min_seconds=0.1
    )


if __name__ == "__main__":
    main(ShardFUSS, index_labelled_fuss, __doc__)
