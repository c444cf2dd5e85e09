#!/usr/bin/env python
"""AVGN, the audio-visual grouping network: learn to point at the sounds of mixtures, score, log to MLflow.

    ray job submit --working-dir . -- python jobs/avgn.py music --data SHARDS

--data trains the paper's recipe. --preset demo trains a small network for some minutes, and draws test pairs itself.
"""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / part) for part in (".", "platform")]

from cocktail.models.avgn import SMALL_AVGN, AVGNConfig
from pipelines.experiments.benchmarks import ADAM, LOCALIZATION
from pipelines.experiments.command_line import TrainingJob

JOB = TrainingJob(
    name="avgn",
    model=AVGNConfig(),
    small=SMALL_AVGN,
    training=ADAM,
    benchmarks=LOCALIZATION,
)

if __name__ == "__main__":
    JOB.main(__doc__)
