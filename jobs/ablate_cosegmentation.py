#!/usr/bin/env python
"""Co-segmentation's rows as a sweep: the paper's Table 1, the readings of what it leaves open, or any grid over
settings, under Ray Tune.

    ray job submit --working-dir . -- python jobs/ablate_cosegmentation.py --data SHARDS --grid both

--data takes shards of MUSIC as jobs/cosegmentation.py music does. Without it, the rows are trained on the small corpus,
each for some minutes. --over PATH=V1,V2,... makes a grid of your own out of the options below. The same command goes on
after a kill. docs/sweeps.md has more.
"""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / part) for part in (".", "platform")]

from cocktail.models.cosegmentation import SMALL_COSEGMENTATION, CoSegmentationConfig
from pipelines.experiments.benchmarks import COSEGMENT, COSEGMENT_MUSIC, COSEGMENTATION
from pipelines.papers.cosegmentation import COSEGMENTATION_PAPER
from pipelines.sweeps.ablation import ablate

NAME, MODEL = "ablate_cosegmentation", CoSegmentationConfig()
RECIPE = COSEGMENT_MUSIC.paper(NAME, MODEL, COSEGMENTATION)
# The small corpus is split as VGG-Sound is.
DEMO = COSEGMENT[0].demo(COSEGMENT[0].paper(NAME, MODEL, COSEGMENTATION), SMALL_COSEGMENTATION)

if __name__ == "__main__":
    ablate(COSEGMENTATION_PAPER, recipe=RECIPE, demo=DEMO, description=__doc__)
