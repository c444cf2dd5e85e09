#!/usr/bin/env python
"""Conv-TasNet, torchaudio's: train on mixtures of a benchmark, score, log to MLflow.

    ray job submit --working-dir . -- python jobs/conv_tasnet.py fuss --data SHARDS

--data trains the paper's recipe. --preset demo trains a small network for some minutes.
"""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / part) for part in (".", "platform")]

from cocktail.config.training import Training
from cocktail.models.conv_tasnet import SMALL_CONV_TASNET, ConvTasNetConfig
from pipelines.experiments.benchmarks import SEPARATION
from pipelines.experiments.command_line import main

# Section III-B: Adam at 1e-3, 100 epochs, gradients clipped at a norm of 5. The paper halves the rate when validation
# has not improved for three epochs, which is left out, and does not say the batch.
ADAM = Training(
    split="train[5%:]",
    epochs=100,
    batch_size=8,
    optimizer="adam",
    learning_rate=1e-3,
    weight_decay=0.0,
    lr_drop_epochs=(),
    clip_gradient_norm=5.0,
    validation_split="train[:5%]",
    validation_mixtures=256,
    select="best",
)

if __name__ == "__main__":
    model = ConvTasNetConfig()
    main("conv_tasnet", model, small=SMALL_CONV_TASNET, training=ADAM, benchmarks=SEPARATION, description=__doc__)
