#!/usr/bin/env python
"""Mix-and-Localize, sounds of a mixture found by a random walk: trained on pairs, tested as jobs/avgn.py is.

    ray job submit --working-dir . -- python jobs/mix_and_localize.py music --data SHARDS

--data trains the recipe of AVGN's tables, but for the weight decay and the 30 epochs of its own paper. --preset demo
trains a small network for some minutes, and draws test pairs itself. docs/localization.md says what its own paper has
otherwise.
"""

import dataclasses
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / part) for part in (".", "platform")]

from cocktail.models.mix_and_localize import SMALL_MIX_AND_LOCALIZE, MixAndLocalizeConfig
from pipelines.experiments.benchmarks import ADAM, LOCALIZATION
from pipelines.experiments.command_line import TrainingJob

JOB = TrainingJob(
    name="mix_and_localize",
    model=MixAndLocalizeConfig(),
    small=SMALL_MIX_AND_LOCALIZE,
    training=dataclasses.replace(ADAM, optimizer="adam", weight_decay=5e-4, epochs=30),
    benchmarks=LOCALIZATION,
)

if __name__ == "__main__":
    JOB.main(__doc__)
