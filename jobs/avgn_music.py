#!/usr/bin/env python
"""AVGN on MUSIC: learn from mixtures of solos, or from duets, score on annotated frames of both, log to MLflow.

    ray job submit --working-dir . -- python jobs/avgn_music.py --data SHARDS

SHARDS are made by jobs/shard_music.py of solos and duets, with --sample-rate-hz 22050, --boxes, and the lists of DSOL
or AVGN (--split lists): boxes are of the videos on their test lists. A duet is one clip with one picture of both
instruments; --mixing.arrangement whole learns from duets alone. --preset demo trains a small network for some minutes.
"""

import sys
from dataclasses import replace
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / part) for part in (".", "platform")]

from cocktail.config.evaluation import Evaluation
from cocktail.config.experiment import Experiment
from cocktail.models.avgn import SMALL_AVGN, AVGNConfig
from pipelines.experiments.benchmarks import ADAM, SCENES, localizing_demo_of
from pipelines.experiments.command_line import main

# An epoch lists every solo a hundred times, as SGN's does. Tested are all annotated frames, of solos by themselves and
# of duets as they are; success from an IoU of 0.5 and a CIoU of 0.3 (Tables 1 and 2).
PAPER = Experiment[AVGNConfig](
    name="avgn_music",
    model=AVGNConfig(),
    mixing=replace(SCENES, passes_per_epoch=100),
    training=ADAM,
    evaluation=Evaluation(arrangement="whole", num_sources=(1, 2), num_mixtures=None, crop="annotated"),
)
DEMO = localizing_demo_of(PAPER, SMALL_AVGN)

if __name__ == "__main__":
    main(Experiment[AVGNConfig], paper=PAPER, demo=DEMO, description=__doc__)
