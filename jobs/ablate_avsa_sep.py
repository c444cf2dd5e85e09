#!/usr/bin/env python
"""AVSA-Sep's ablations as a sweep: the rows of the paper's Table 3, or what it leaves open, under Ray Tune.

    ray job submit --working-dir . -- python jobs/ablate_avsa_sep.py --data SHARDS --grid both

--data takes shards of MUSIC (jobs/shard_music.py), on which the paper's tables are. Without it, the rows are trained
on the small corpus, each for some minutes. Each row is a training of its own, those that differ in their test as well;
jobs/evaluate.py tests one checkpoint in all ways. --over PATH=V1,V2,... makes a grid of your own out of the options
below. The same command goes on after a kill. docs/sweeps.md has more.
"""

import dataclasses
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / part) for part in (".", "platform")]

from cocktail.models.avsa_sep import SMALL_AVSA_SEP, AVSASepConfig
from pipelines.experiments.benchmarks import SEPARATE_MUSIC_SCENES, SEPARATE_VGGSOUND_SCENES, SGD
from pipelines.papers.avsa_sep import AVSA_SEP
from pipelines.sweeps.ablation import ablate

# Table 3 does not say of how many sources its mixtures are; two, by what Sound of Pixels has in it.
MUSIC, VGGSOUND = (
    dataclasses.replace(benchmark, mixing=dataclasses.replace(benchmark.mixing, num_sources=2))
    for benchmark in (SEPARATE_MUSIC_SCENES, SEPARATE_VGGSOUND_SCENES)
)
RECIPE = MUSIC.paper("ablate_avsa_sep", AVSASepConfig(), SGD)
# The small corpus is split as VGG-Sound is.
DEMO = VGGSOUND.demo(VGGSOUND.paper("ablate_avsa_sep", AVSASepConfig(), SGD), SMALL_AVSA_SEP)

if __name__ == "__main__":
    ablate(AVSA_SEP, recipe=RECIPE, demo=DEMO, description=__doc__)
