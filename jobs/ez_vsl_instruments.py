#!/usr/bin/env python
"""EZ-VSL on VGGSound-Instruments: what jobs/avgn_instruments.py does, with the contrast that AVGN is compared to.

    ray job submit --working-dir . -- python jobs/ez_vsl_instruments.py --data SHARDS

It takes the shards of jobs/avgn_instruments.py, and its options.
"""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / part) for part in (".", "platform")]

from cocktail.config.experiment import Experiment
from cocktail.models.ez_vsl import SMALL_EZ_VSL, EZVSLConfig
from jobs import avgn_instruments
from pipelines.experiments.benchmarks import localizing_demo_of
from pipelines.experiments.command_line import main

PAPER = Experiment[EZVSLConfig](
    name="ez_vsl_instruments",
    model=EZVSLConfig(),
    mixing=avgn_instruments.PAPER.mixing,
    training=avgn_instruments.PAPER.training,
    evaluation=avgn_instruments.PAPER.evaluation,
)

if __name__ == "__main__":
    demo = localizing_demo_of(PAPER, SMALL_EZ_VSL)
    main(Experiment[EZVSLConfig], paper=PAPER, demo=demo, description=__doc__)
