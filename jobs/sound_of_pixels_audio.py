#!/usr/bin/env python
"""Sound of Pixels without its eyes: train on mixtures of a benchmark, score in the best order, log to MLflow.

    ray job submit --working-dir . -- python jobs/sound_of_pixels_audio.py music --data SHARDS

--data trains the paper's recipe. --preset demo trains a small network for a few minutes. --model.no-pit keeps outputs
in the order in which sources are drawn.
"""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / part) for part in (".", "platform")]

from cocktail.models.sound_of_pixels_audio import SMALL_SOUND_OF_PIXELS_AUDIO, SoundOfPixelsAudioConfig
from pipelines.experiments.benchmarks import SEPARATION, SGD
from pipelines.experiments.command_line import TrainingJob

JOB = TrainingJob(
    name="sound_of_pixels_audio",
    model=SoundOfPixelsAudioConfig(),
    small=SMALL_SOUND_OF_PIXELS_AUDIO,
    training=SGD,
    benchmarks=SEPARATION,
)

if __name__ == "__main__":
    JOB.main(__doc__)
