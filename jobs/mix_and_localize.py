#!/usr/bin/env python
"""Mix-and-Localize, sounds of a mixture found by a random walk: trained on pairs, tested as jobs/avgn.py is.

    ray job submit --working-dir . -- python jobs/mix_and_localize.py music --data SHARDS

--data trains the published recipe: 64 pairs a step, Adam at 1e-4 with its decay, 0.95 of the rate every three epochs,
30 epochs. --preset demo trains a small network for some minutes, and draws test pairs itself. docs/localization.md says
what its own paper has otherwise.
"""

import dataclasses
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / part) for part in (".", "platform")]

from cocktail.models.mix_and_localize import SMALL_MIX_AND_LOCALIZE, MixAndLocalizeConfig
from pipelines.experiments.benchmarks import ADAM, LOCALIZATION
from pipelines.experiments.command_line import TrainingJob

EPOCHS = 30
RECIPE = dataclasses.replace(
    ADAM,
    validation_mixtures=2048,  # heads are matched to classes by them: 18 pictures of each of VGG-SS's
    batch_size=64,
    optimizer="adam",
    weight_decay=5e-4,
    epochs=EPOCHS,
    lr_drop_epochs=tuple(range(3, EPOCHS, 3)),
    lr_drop_factor=0.95,
)
JOB = TrainingJob(
    name="mix_and_localize",
    model=MixAndLocalizeConfig(),
    small=SMALL_MIX_AND_LOCALIZE,
    training=RECIPE,
    benchmarks=LOCALIZATION,
)

if __name__ == "__main__":
    JOB.main(__doc__)
