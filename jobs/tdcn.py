#!/usr/bin/env python
"""TDCN++, FUSS's baseline: train on mixtures of a benchmark, score, log to MLflow.

    ray job submit --working-dir . -- python jobs/tdcn.py fuss --data SHARDS

--data trains the paper's recipe. --preset demo trains a small network for some minutes.
fuss_released is FUSS as its baseline has it, at 16 kHz; it needs --model.outputs 4.
"""

import dataclasses
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / part) for part in (".", "platform")]

from cocktail.config.training import Training
from cocktail.models.tdcn import SMALL_TDCN, TDCNConfig
from pipelines.experiments.benchmarks import SEPARATE_FUSS, SEPARATION
from pipelines.experiments.command_line import main

FUSS_RELEASED = dataclasses.replace(
    SEPARATE_FUSS,
    word="fuss_released",
    trains_on="mixtures of FUSS as they were released, ten seconds of one to four sources; needs --model.outputs 4",
    tests_on="all eval mixtures, by the number of their sources",
    shards="jobs/shard_fuss.py --sample-rate-hz 16000",
    mixing=dataclasses.replace(
        SEPARATE_FUSS.mixing,
        num_sources=4,
        min_sources=1,
        distinct_classes=False,
        sample_rate_hz=16000,
        segment_samples=160000,
    ),
)
# Three mixtures a step, Adam at 1e-4 without weight decay, halved after two million steps. Epochs are SGN's, whose
# table has it.
RECIPE = Training(
    epochs=100,
    batch_size=3,
    optimizer="adam",
    learning_rate=1e-4,
    weight_decay=0.0,
    lr_drop_epochs=(),
    lr_decay_every=2_000_000,
    lr_decay_factor=0.5,
)

if __name__ == "__main__":
    benchmarks = (*SEPARATION, FUSS_RELEASED)
    main("tdcn", TDCNConfig(), small=SMALL_TDCN, training=RECIPE, benchmarks=benchmarks, description=__doc__)
