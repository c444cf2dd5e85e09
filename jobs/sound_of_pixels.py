#!/usr/bin/env python
"""Sound of Pixels, separation by pictures of the sources: train on mixtures of a benchmark, score, log to MLflow.

    ray job submit --working-dir . -- python jobs/sound_of_pixels.py music --data SHARDS

--data trains the paper's recipe, three pictures a source. --preset demo trains a small network for some minutes.
With one picture a source (--mixing.pictures-per-source 1, as in the demo) it is also tested on where the sounds are.
"""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / part) for part in (".", "platform")]

from cocktail.models.sound_of_pixels import SMALL_SOUND_OF_PIXELS, SoundOfPixelsConfig
from pipelines.experiments.benchmarks import SEPARATION_BY_SIGHT, SGD
from pipelines.experiments.command_line import TrainingJob

JOB = TrainingJob(
    name="sound_of_pixels",
    model=SoundOfPixelsConfig(),
    small=SMALL_SOUND_OF_PIXELS,
    training=SGD,
    benchmarks=SEPARATION_BY_SIGHT,
)

if __name__ == "__main__":
    JOB.main(__doc__)
