#!/usr/bin/env python
"""Hybrid Demucs, torchaudio's: train on mixtures of a benchmark, score, log to MLflow.

    ray job submit --working-dir . -- python jobs/hdemucs.py musdb18 --data SHARDS --mixing.num-sources 4

--data trains the paper's recipe at SGN's 11,025 Hz, with an output for each class. Shards of its own rate take
--mixing.sample-rate-hz 44100 --mixing.segment-samples 262144 --model.n-fft 4096. Data sets of more classes than a song
has stems take --model.sources anonymous --model.loss si_sdr. --preset demo trains a small network, of two anonymous
sources, for some minutes.
"""

import sys
from dataclasses import replace
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / part) for part in (".", "platform")]

from cocktail.models.hdemucs import SMALL_HDEMUCS, HDemucsConfig
from pipelines.experiments.benchmarks import ADAM, SEPARATION
from pipelines.experiments.command_line import TrainingJob

# The authors' recipe: Adam at 3e-4, 64 mixtures a step, 360 epochs, the checkpoint of the least validation loss. Their
# changes of pitch, tempo and channels, and their averages of weights, are left out.
RECIPE = replace(ADAM, epochs=360, batch_size=64, optimizer="adam", learning_rate=3e-4)

JOB = TrainingJob(
    name="hdemucs",
    model=HDemucsConfig(),
    small=SMALL_HDEMUCS,
    training=RECIPE,
    benchmarks=SEPARATION,
)

if __name__ == "__main__":
    JOB.main(__doc__)
