#!/usr/bin/env python
"""DSOL, discriminative sounding objects localization: trained in two stages, tested as jobs/avgn.py is.

    ray job submit --working-dir . -- python jobs/dsol.py music --data SHARDS

Two runs, one after the other, the second starting from the first: single, on the sources of mixtures by themselves, and
mixtures; the same command goes on where it stood. --model.stage mixtures --start-from RUN begins with the second.
--data trains the recipe of AVGN's tables. --preset demo trains a small network for some minutes a stage, and draws test
pairs itself. docs/localization.md says what its own paper has otherwise.
"""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / part) for part in (".", "platform")]

from cocktail.models.dsol import SMALL_DSOL, STAGES, DSOLConfig
from pipelines.experiments.benchmarks import ADAM, LOCALIZATION
from pipelines.experiments.command_line import TrainingJob

JOB = TrainingJob(
    name="dsol",
    model=DSOLConfig(),
    small=SMALL_DSOL,
    training=ADAM,
    benchmarks=LOCALIZATION,
    stages=STAGES,
)

if __name__ == "__main__":
    JOB.main(__doc__)
