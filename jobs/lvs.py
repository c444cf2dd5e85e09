#!/usr/bin/env python
"""LVS, which learns where nothing sounds, too: trained on single sources, tested as jobs/avgn.py is.

    ray job submit --working-dir . -- python jobs/lvs.py music --data SHARDS

--data trains the recipe of AVGN's tables. --preset demo trains a small network for some minutes, and draws test pairs
itself. docs/localization.md says what its own paper has otherwise.
"""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / part) for part in (".", "platform")]

from cocktail.models.lvs import SMALL_LVS, LVSConfig
from pipelines.experiments.benchmarks import ADAM, LOCALIZATION_OF_ONE
from pipelines.experiments.command_line import TrainingJob

JOB = TrainingJob(
    name="lvs",
    model=LVSConfig(),
    small=SMALL_LVS,
    training=ADAM,
    benchmarks=LOCALIZATION_OF_ONE,
)

if __name__ == "__main__":
    JOB.main(__doc__)
