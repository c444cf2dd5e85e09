#!/usr/bin/env python
"""MP-Net, recursive separation by pictures of the sources: train on mixtures of a benchmark, score, log to MLflow.

    ray job submit --working-dir . -- python jobs/mp_net.py music --data SHARDS

Three runs, one after the other, each starting from the one before: minus, plus, joint; the same command goes on where
it stood. --model.stage plus --start-from RUN begins with a later one. --data trains the paper's recipe. --preset demo
trains a small network for some minutes a stage.
The minus net may start from a run of jobs/sound_of_pixels.py of the same widths:
--start-from RUN --start-parts visual_encoder unet mask_head
"""

import dataclasses
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / part) for part in (".", "platform")]

from cocktail.models.mp_net import SMALL_MP_NET, STAGES, MPNetConfig
from pipelines.experiments.benchmarks import SEPARATION_BY_SIGHT, SGD
from pipelines.experiments.command_line import TrainingJob

# A stage's step takes longer than that of a network that hears each mixture once, and there are three.
BENCHMARKS = tuple(dataclasses.replace(benchmark, demo_steps=600) for benchmark in SEPARATION_BY_SIGHT)

JOB = TrainingJob(
    name="mp_net",
    model=MPNetConfig(),
    small=SMALL_MP_NET,
    training=SGD,
    benchmarks=BENCHMARKS,
    stages=STAGES,
)

if __name__ == "__main__":
    JOB.main(__doc__)
