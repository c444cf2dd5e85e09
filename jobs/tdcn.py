#!/usr/bin/env python
"""TDCN++, FUSS's baseline: train on mixtures of a benchmark, score, log to MLflow.

    ray job submit --working-dir . -- python jobs/tdcn.py fuss --data SHARDS

--data trains the paper's recipe. --preset demo trains a small network for some minutes.
fuss_released is FUSS as its baseline has it, at 16 kHz, with four outputs.
"""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / part) for part in (".", "platform")]

from cocktail.config.training import Training
from cocktail.models.tdcn import SMALL_TDCN, TDCNConfig
from pipelines.experiments.benchmarks import SEPARATE_FUSS_RELEASED, SEPARATION
from pipelines.experiments.command_line import TrainingJob

# Three mixtures a step, Adam at 1e-4 without weight decay, which falls by a half, evenly on a logarithmic scale, in two
# million steps. Epochs are SGN's, whose table has it.
RECIPE = Training(
    epochs=100,
    batch_size=3,
    optimizer="adam",
    learning_rate=1e-4,
    weight_decay=0.0,
    lr_drop_epochs=(),
    lr_decay_every=1,
    lr_decay_factor=0.5 ** (1 / 2_000_000),
)

JOB = TrainingJob(
    name="tdcn",
    model=TDCNConfig(),
    small=SMALL_TDCN,
    training=RECIPE,
    benchmarks=(*SEPARATION, SEPARATE_FUSS_RELEASED),
)

if __name__ == "__main__":
    JOB.main(__doc__)
