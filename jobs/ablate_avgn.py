#!/usr/bin/env python
"""AVGN's ablations as a sweep: the rows of the paper's Table 4 and 3, or any grid over settings, under Ray Tune.

    ray job submit --working-dir . -- python jobs/ablate_avgn.py --data SHARDS --grid both

--data takes shards of MUSIC (jobs/shard_music.py) of solos and duets with boxes, as jobs/avgn.py music does; the
paper's tables are on them. Without it, the rows are trained on the small corpus, each for some minutes. --over
PATH=V1,V2,... makes a grid of your own out of the options below. The same command goes on after a kill.
docs/sweeps.md has more.
"""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / part) for part in (".", "platform")]

from cocktail.models.avgn import SMALL_AVGN, AVGNConfig
from pipelines.experiments.benchmarks import ADAM, LOCALIZE_MUSIC, LOCALIZE_VGGSOUND
from pipelines.papers.avgn import AVGN
from pipelines.sweeps.ablation import ablate

RECIPE = LOCALIZE_MUSIC.paper("ablate_avgn", AVGNConfig(), ADAM)
# The small corpus is split as VGG-Sound is.
DEMO = LOCALIZE_VGGSOUND.demo(LOCALIZE_VGGSOUND.paper("ablate_avgn", AVGNConfig(), ADAM), SMALL_AVGN)

if __name__ == "__main__":
    ablate(AVGN, recipe=RECIPE, demo=DEMO, description=__doc__)
