#!/usr/bin/env python
"""AVGN on VGG-Sound: learn to point at the sounds of mixtures, score on VGG-SS, single and in pairs, log to MLflow.

    ray job submit --working-dir . -- python jobs/avgn_vggsound.py --data SHARDS --evaluation.data TEST

SHARDS are made by jobs/shard_vggsound.py, TEST by jobs/shard_vggss.py with AVGN's list of pairs (--duet), both with
--sample-rate-hz 22050. Without them, a small corpus of sampled instruments is made on first use and a small network
trained for some minutes.
"""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / part) for part in (".", "platform")]

from cocktail.config.evaluation import Evaluation
from cocktail.config.experiment import Experiment
from cocktail.models.avgn import SMALL_AVGN, AVGNConfig
from pipelines.experiments.benchmarks import ADAM, SCENES, localizing_demo_of
from pipelines.experiments.command_line import main

# VGGSound-Single and -Duet: success from an IoU of 0.5 and a CIoU of 0.3 (Tables 1 and 2).
PAPER = Experiment[AVGNConfig](
    name="avgn_vggsound",
    model=AVGNConfig(),
    mixing=SCENES,
    training=ADAM,
    evaluation=Evaluation(num_sources=(1, 2), num_mixtures=None, pairs="official"),
)

if __name__ == "__main__":
    demo = localizing_demo_of(PAPER, SMALL_AVGN)
    main(Experiment[AVGNConfig], paper=PAPER, demo=demo, embedded=True, description=__doc__)
