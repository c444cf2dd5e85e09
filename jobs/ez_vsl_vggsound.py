#!/usr/bin/env python
"""EZ-VSL on VGG-Sound: what jobs/avgn_vggsound.py does, with the plain contrast that AVGN is compared with.

    ray job submit --working-dir . -- python jobs/ez_vsl_vggsound.py --data SHARDS --evaluation.data TEST

It takes the shards of jobs/avgn_vggsound.py, and its options. Without them, the small corpus.
"""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / part) for part in (".", "platform")]

from cocktail.config.experiment import Experiment
from cocktail.models.ez_vsl import SMALL_EZ_VSL, EZVSLConfig
from jobs import avgn_vggsound
from pipelines.experiments.benchmarks import localizing_demo_of
from pipelines.experiments.command_line import main

PAPER = Experiment[EZVSLConfig](
    name="ez_vsl_vggsound",
    model=EZVSLConfig(),
    mixing=avgn_vggsound.PAPER.mixing,
    training=avgn_vggsound.PAPER.training,
    evaluation=avgn_vggsound.PAPER.evaluation,
)

if __name__ == "__main__":
    demo = localizing_demo_of(PAPER, SMALL_EZ_VSL)
    main(Experiment[EZVSLConfig], paper=PAPER, demo=demo, embedded=True, description=__doc__)
