#!/usr/bin/env python
"""Attention10k, the attention of a sound to its picture: trained on single sources, tested as jobs/avgn.py is.

    ray job submit --working-dir . -- python jobs/attention10k.py music --data SHARDS

--data trains the recipe of AVGN's tables. --preset demo trains a small network for some minutes, and draws test pairs
itself. docs/localization.md says what its own paper has otherwise.
"""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / part) for part in (".", "platform")]

from cocktail.models.attention10k import SMALL_ATTENTION10K, Attention10kConfig
from pipelines.experiments.benchmarks import ADAM, LOCALIZATION_OF_ONE
from pipelines.experiments.command_line import TrainingJob

JOB = TrainingJob(
    name="attention10k",
    model=Attention10kConfig(),
    small=SMALL_ATTENTION10K,
    training=ADAM,
    benchmarks=LOCALIZATION_OF_ONE,
)

if __name__ == "__main__":
    JOB.main(__doc__)
