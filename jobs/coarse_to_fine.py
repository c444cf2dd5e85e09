#!/usr/bin/env python
"""CoarsetoFine, localization of several sources from coarse to fine: trained in two stages, tested as jobs/avgn.py is.

    ray job submit --working-dir . -- python jobs/coarse_to_fine.py music --data SHARDS

Two runs, one after the other, the second starting from the first: coarse, fine; the same command goes on where it
stood. --model.stage fine --start-from RUN begins with the second. --data trains the recipe of AVGN's tables. --preset
demo trains a small network for some minutes a stage, and draws test pairs itself. docs/localization.md says what its
own paper has otherwise.
"""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / part) for part in (".", "platform")]

from cocktail.models.coarse_to_fine import SMALL_COARSE_TO_FINE, STAGES, CoarseToFineConfig
from pipelines.experiments.benchmarks import ADAM, LOCALIZATION
from pipelines.experiments.command_line import TrainingJob

JOB = TrainingJob(
    name="coarse_to_fine",
    model=CoarseToFineConfig(),
    small=SMALL_COARSE_TO_FINE,
    training=ADAM,
    benchmarks=LOCALIZATION,
    stages=STAGES,
)

if __name__ == "__main__":
    JOB.main(__doc__)
