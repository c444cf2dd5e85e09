#!/usr/bin/env python
"""NMF, blind separation by factorising each mixture: scored on a benchmark and logged to MLflow. Nothing is trained.

    ray job submit --working-dir . -- python jobs/nmf.py music --data SHARDS

--data tests on the paper's mixtures, --preset demo on a hundred shorter ones. jobs/nmf_sup.py knows the classes.
"""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / part) for part in (".", "platform")]

from cocktail.config.training import Training
from cocktail.models.nmf import NMFConfig
from pipelines.experiments.benchmarks import SEPARATION
from pipelines.experiments.command_line import TrainingJob

JOB = TrainingJob(
    name="nmf",
    model=NMFConfig(),
    small=NMFConfig(),
    training=Training(),
    benchmarks=SEPARATION,
)

if __name__ == "__main__":
    JOB.main(__doc__)
