#!/usr/bin/env python
"""RPCA, blind separation of what repeats from what does not: scored on pairs of a benchmark and logged to MLflow.

    ray job submit --working-dir . -- python jobs/rpca.py music --data SHARDS

Nothing is trained. --data tests on the paper's mixtures, --preset demo on a hundred shorter ones.
"""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / part) for part in (".", "platform")]

from cocktail.config.training import Training
from cocktail.models.rpca import RPCAConfig
from pipelines.experiments.benchmarks import SEPARATION
from pipelines.experiments.command_line import TrainingJob

JOB = TrainingJob(
    name="rpca",
    model=RPCAConfig(),
    small=RPCAConfig(),
    training=Training(),
    benchmarks=SEPARATION,
)

if __name__ == "__main__":
    JOB.main(__doc__)
