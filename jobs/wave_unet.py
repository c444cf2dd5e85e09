#!/usr/bin/env python
"""Wave-U-Net, a baseline of SGN's tables on waveforms: train on mixtures of a benchmark, score, log to MLflow.

    ray job submit --working-dir . -- python jobs/wave_unet.py music --data SHARDS

--data trains the paper's recipe. --preset demo trains a small network for some minutes.
--model.class-head adds a classifier, --model.sources asked tells the network the classes, --model.sources stems has an
output a class (MUSDB18, with --mixing.num-sources 4).
"""

import sys
from dataclasses import replace
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / part) for part in (".", "platform")]

from cocktail.models.wave_unet import SMALL_WAVE_U_NET, WaveUNetConfig
from pipelines.experiments.benchmarks import ADAM, SEPARATION
from pipelines.experiments.command_line import TrainingJob

# The paper's Adam at 1e-4, 16 mixtures a step, and the checkpoint of the least validation loss. The paper stops when
# that has not fallen for 20 epochs of 2000 steps, and goes on with 32 mixtures at 1e-5: a run that starts from this
# one. Epochs are SGN's, whose tables have the network.
RECIPE = replace(ADAM, batch_size=16, optimizer="adam")

JOB = TrainingJob(
    name="wave_unet",
    model=WaveUNetConfig(),
    small=SMALL_WAVE_U_NET,
    training=RECIPE,
    benchmarks=SEPARATION,
)

if __name__ == "__main__":
    JOB.main(__doc__)
