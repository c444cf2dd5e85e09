#!/usr/bin/env python
"""AVGN on VGGSound-Instruments: 37 instruments, tested on frames with segmentation masks, single and in pairs.

    ray job submit --working-dir . -- python jobs/avgn_instruments.py --data SHARDS

SHARDS are made by jobs/shard_vgginstruments.py with --sample-rate-hz 22050, the marked frames (--test, --test-list) and
AVGN's list of partners (--multi). --preset demo trains a small network for some minutes and draws pairs itself.
"""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / part) for part in (".", "platform")]

from cocktail.config.evaluation import Evaluation
from cocktail.config.experiment import Experiment
from cocktail.models.avgn import SMALL_AVGN, AVGNConfig
from pipelines.experiments.benchmarks import ADAM, SCENES, localizing_demo_of
from pipelines.experiments.command_line import main

# Success from an IoU of 0.3 and a CIoU of 0.1 (Tables 1 and 2).
PAPER = Experiment[AVGNConfig](
    name="avgn_instruments",
    model=AVGNConfig(),
    mixing=SCENES,
    training=ADAM,
    evaluation=Evaluation(
        num_sources=(1, 2), num_mixtures=None, pairs="official", single_threshold=0.3, multi_threshold=0.1
    ),
)

if __name__ == "__main__":
    main(Experiment[AVGNConfig], paper=PAPER, demo=localizing_demo_of(PAPER, SMALL_AVGN), description=__doc__)
