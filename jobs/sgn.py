#!/usr/bin/env python
"""SGN, the semantic grouping network for separation: train on mixtures of a benchmark, score, log to MLflow.

    ray job submit --working-dir . -- python jobs/sgn.py music --data SHARDS

--data trains the paper's recipe. --preset demo trains a small network for a few minutes.
"""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / part) for part in (".", "platform")]

from cocktail.models.sgn import SMALL_SGN, SGNConfig
from pipelines.experiments.benchmarks import SEPARATION, SGD
from pipelines.experiments.command_line import TrainingJob

JOB = TrainingJob(
    name="sgn",
    model=SGNConfig(),
    small=SMALL_SGN,
    training=SGD,
    benchmarks=SEPARATION,
)

if __name__ == "__main__":
    JOB.main(__doc__)
