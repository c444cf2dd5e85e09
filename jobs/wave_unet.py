#!/usr/bin/env python
"""Wave-U-Net, a baseline of SGN's tables on waveforms: train on mixtures of a benchmark, score, log to MLflow.

    ray job submit --working-dir . -- python jobs/wave_unet.py music --data SHARDS

--data trains the paper's recipe. --preset demo trains a small network for some minutes.
--model.class-head adds a classifier, --model.sources asked tells the network the classes, --model.sources stems has an
output a class (MUSDB18, with --mixing.num-sources 4).
"""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / part) for part in (".", "platform")]

from cocktail.config.training import Training
from cocktail.models.wave_unet import SMALL_WAVE_U_NET, WaveUNetConfig
from pipelines.experiments.benchmarks import SEPARATION
from pipelines.experiments.command_line import main

# The paper's Adam at 1e-4, 16 mixtures a step, and the checkpoint of the least validation loss. The paper stops when
# that has not fallen for 20 epochs of 2000 steps, and goes on with 32 mixtures at 1e-5: a run that starts from this
# one. Epochs are SGN's, whose tables have the network.
ADAM = Training(
    split="train[5%:]",
    epochs=100,
    batch_size=16,
    optimizer="adam",
    learning_rate=1e-4,
    weight_decay=0.0,
    lr_drop_epochs=(),
    validation_split="train[:5%]",
    validation_mixtures=256,
    select="best",
)

if __name__ == "__main__":
    model = WaveUNetConfig()
    main("wave_unet", model, small=SMALL_WAVE_U_NET, training=ADAM, benchmarks=SEPARATION, description=__doc__)
