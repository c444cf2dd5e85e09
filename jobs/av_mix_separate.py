#!/usr/bin/env python
"""AV-Mix-and-Separate, separation by whole pictures of the sources: train on mixtures of a benchmark, score, log to
MLflow.

    ray job submit --working-dir . -- python jobs/av_mix_separate.py music --data SHARDS

It is Co-Separation's network (jobs/co_separation.py) without a scene and without a classifier: each picture's mask is
taught by itself. --data trains Co-Separation's published recipe. --preset demo trains a small network for some minutes.
"""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / part) for part in (".", "platform")]

from cocktail.models.co_separation import AV_MIX_SEPARATE, SMALL_AV_MIX_SEPARATE
from pipelines.experiments.benchmarks import CO_SEPARATION, SEPARATION_BY_A_GLANCE
from pipelines.experiments.command_line import TrainingJob

JOB = TrainingJob(
    name="av_mix_separate",
    model=AV_MIX_SEPARATE,
    small=SMALL_AV_MIX_SEPARATE,
    training=CO_SEPARATION,
    benchmarks=SEPARATION_BY_A_GLANCE,
)

if __name__ == "__main__":
    JOB.main(__doc__)
