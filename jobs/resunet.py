#!/usr/bin/env python
"""ResUNetDecouple+, magnitude and phase estimated apart: train on mixtures of a benchmark, score, log to MLflow.

    ray job submit --working-dir . -- python jobs/resunet.py music --data SHARDS

--data trains the paper's recipe. --preset demo trains a small network for a quarter of an hour on two cores.
--model.class-head adds a classifier, --model.sources asked tells the network the classes, --model.sources stems has an
output a class (MUSDB18).
"""

import sys
from dataclasses import replace
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / part) for part in (".", "platform")]

from cocktail.config.training import Training
from cocktail.models.resunet import SMALL_RESUNET, ResUNetConfig
from pipelines.experiments.benchmarks import SEPARATION
from pipelines.experiments.command_line import TrainingJob

# Its section 4: Adam at 1e-3 that warms up over 1,000 steps and falls to nine tenths each 15,000, 16 segments a step.
# Its code decays no weights, and has AMSGrad besides, which makes no update larger. Epochs are SGN's, whose tables have
# the network.
RECIPE = Training(
    epochs=100,
    batch_size=16,
    optimizer="adam",
    learning_rate=1e-3,
    weight_decay=0.0,
    lr_warm_up_steps=1000,
    lr_drop_epochs=(),
    lr_decay_every=15000,
)

# A step takes some times as long as that of a network of one convolution a layer.
BENCHMARKS = tuple(replace(benchmark, demo_steps=900) for benchmark in SEPARATION)

JOB = TrainingJob(
    name="resunet",
    model=ResUNetConfig(),
    small=SMALL_RESUNET,
    training=RECIPE,
    benchmarks=BENCHMARKS,
)

if __name__ == "__main__":
    JOB.main(__doc__)
