#!/usr/bin/env python
"""Co-Separation, separation by objects in pictures: train on mixtures of a benchmark, score, log to MLflow.

    ray job submit --working-dir . -- python jobs/co_separation.py music --data SHARDS

There is no detector: the whole picture of a source stands for its video's only object, and the source's class for the
detected one (model.objects frame); or the box of that class that the shards have (--model.objects box
--mixing.picture-part box). A learned vector stands for the paper's pictures of unrelated scenes.
--data trains the published recipe. --preset demo trains a small network for some minutes.
"""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / part) for part in (".", "platform")]

from cocktail.models.co_separation import SMALL_CO_SEPARATION, CoSeparationConfig
from pipelines.experiments.benchmarks import CO_SEPARATION, SEPARATION_BY_A_GLANCE
from pipelines.experiments.command_line import TrainingJob

JOB = TrainingJob(
    name="co_separation",
    model=CoSeparationConfig(),
    small=SMALL_CO_SEPARATION,
    training=CO_SEPARATION,
    benchmarks=SEPARATION_BY_A_GLANCE,
)

if __name__ == "__main__":
    JOB.main(__doc__)
