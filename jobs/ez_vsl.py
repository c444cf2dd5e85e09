#!/usr/bin/env python
"""EZ-VSL, the plain contrast that AVGN is compared with: trained on single sources, tested as jobs/avgn.py is.

    ray job submit --working-dir . -- python jobs/ez_vsl.py music --data SHARDS

--data trains the recipe of AVGN's tables. --preset demo trains a small network for some minutes, and draws test pairs
itself. docs/localization.md says what its own paper has otherwise.
--mixing.num-sources 2 trains on AVGN's mixtures: two pictures side by side, two sounds added.
"""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / part) for part in (".", "platform")]

from cocktail.models.ez_vsl import SMALL_EZ_VSL, EZVSLConfig
from pipelines.experiments.benchmarks import ADAM, LOCALIZATION_OF_ONE
from pipelines.experiments.command_line import TrainingJob

JOB = TrainingJob(
    name="ez_vsl",
    model=EZVSLConfig(),
    small=SMALL_EZ_VSL,
    training=ADAM,
    benchmarks=LOCALIZATION_OF_ONE,
)

if __name__ == "__main__":
    JOB.main(__doc__)
