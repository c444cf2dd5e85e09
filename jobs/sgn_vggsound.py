#!/usr/bin/env python
"""SGN on VGG-Sound: train on mixtures of two classes, score on the frozen test list, log to MLflow.

    ray job submit --working-dir . -- python jobs/sgn_vggsound.py --data SHARDS

--data takes shards made by jobs/shard_vggsound.py and trains the paper's recipe on them. Without it, a small corpus
of sampled instruments is made on first use and a small network trained for a few minutes.
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

# SGN section IV: two sources, batch 80, 100 epochs of SGD, on binary masks; the rest is Sound of Pixels' recipe.
PAPER = Experiment[SGNConfig](
    name="sgn_vggsound",
    model=SGNConfig(width=256, depth=6),
    mixing=Mixing(num_sources=2),
    training=Training(epochs=100, batch_size=80, optimizer="sgd", learning_rate=1e-3, lr_drop_epochs=(40, 80)),
    evaluation=Evaluation(num_mixtures=1000),
)

if __name__ == "__main__":
    main(Experiment[SGNConfig], paper=PAPER, demo=demo_of(PAPER, SMALL_SGN), embedded=True, description=__doc__)
