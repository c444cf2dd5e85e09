#!/usr/bin/env python
"""SLAVC, momentum encoders and dropout, for sounds of what is not seen: trained on single sources, tested as
jobs/avgn.py is.

    ray job submit --working-dir . -- python jobs/slavc.py music --data SHARDS

--data trains by the recipe of AVGN's tables, for 100 epochs where its own has 20. --preset demo trains a small network
for some minutes, and draws test pairs itself. docs/localization.md says what is a reading.
"""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / part) for part in (".", "platform")]

from cocktail.models.slavc import SMALL_SLAVC, SLAVCConfig
from pipelines.experiments.benchmarks import ADAM, LOCALIZATION_OF_ONE
from pipelines.experiments.command_line import TrainingJob

JOB = TrainingJob(
    name="slavc",
    model=SLAVCConfig(),
    small=SMALL_SLAVC,
    training=ADAM,
    benchmarks=LOCALIZATION_OF_ONE,
)

if __name__ == "__main__":
    JOB.main(__doc__)
