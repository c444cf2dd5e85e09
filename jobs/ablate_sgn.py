#!/usr/bin/env python
"""SGN's ablations as a sweep: the rows of the paper's Table IV and III, or any grid over settings, under Ray Tune.

    ray job submit --working-dir . -- python jobs/ablate_sgn.py --data SHARDS --grid both

--data takes shards of MUSIC (jobs/shard_music.py), on which the paper's tables are. Without it, the rows are trained
on the small corpus, each for a few minutes. --over PATH=V1,V2,... makes a grid of your own out of the options below.
The same command goes on after a kill. docs/sweeps.md has more.
"""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / part) for part in (".", "platform")]

from cocktail.models.sgn import SMALL_SGN, SGNConfig
from pipelines.experiments.benchmarks import SEPARATE_MUSIC, SEPARATE_VGGSOUND, SGD
from pipelines.papers.sgn import SGN
from pipelines.sweeps.ablation import ablate

RECIPE = SEPARATE_MUSIC.paper("ablate_sgn", SGNConfig(), SGD)
# The small corpus is split as VGG-Sound is.
DEMO = SEPARATE_VGGSOUND.demo(SEPARATE_VGGSOUND.paper("ablate_sgn", SGNConfig(), SGD), SMALL_SGN)

if __name__ == "__main__":
    ablate(SGN, recipe=RECIPE, demo=DEMO, description=__doc__)
