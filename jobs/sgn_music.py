#!/usr/bin/env python
"""SGN on MUSIC (SGN Table I): train on mixtures of two solos of different instruments, score, log to MLflow.

    ray job submit --working-dir . -- python jobs/sgn_music.py --data SHARDS

--data takes shards made by jobs/shard_music.py; their val split, the solos that are not trained on, is the test set, as
in the paper. --preset demo trains a small network for a few minutes.
"""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / part) for part in (".", "platform")]

from cocktail.config.evaluation import Evaluation
from cocktail.config.experiment import Experiment
from cocktail.config.mixing import Mixing
from cocktail.config.training import Training
from cocktail.models.sgn import SMALL_SGN, SGNConfig
from pipelines.experiments.benchmarks import demo_of
from pipelines.experiments.command_line import main

# An epoch lists every solo a hundred times, as Sound of Pixels does; without that an epoch would be four steps.
PAPER = Experiment[SGNConfig](
    name="sgn_music",
    model=SGNConfig(width=256, depth=6),
    mixing=Mixing(num_sources=2, passes_per_epoch=100),
    training=Training(epochs=100, batch_size=80, optimizer="sgd", learning_rate=1e-3, lr_drop_epochs=(40, 80)),
    evaluation=Evaluation(split="val", num_mixtures=1000),
)

if __name__ == "__main__":
    main(Experiment[SGNConfig], paper=PAPER, demo=demo_of(PAPER, SMALL_SGN), description=__doc__)
