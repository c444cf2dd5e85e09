#!/usr/bin/env python
"""SGN on FUSS (SGN Table II): train on pairs of sources of released mixtures, score, log to MLflow.

    ray job submit --working-dir . -- python jobs/sgn_fuss.py --data SHARDS

--data takes shards made by jobs/shard_fuss.py with --fsd50k (SGN needs classes) and --sample-rate-hz 11025. Training
draws two sources of mixtures that have two or more and sums them again; the test is on the eval mixtures that were
released with two. --preset demo trains a small network for a few minutes.
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

# The paper says "two sources"; FUSS mixtures have one to four.
PAPER = Experiment[SGNConfig](
    name="sgn_fuss",
    model=SGNConfig(width=256, depth=6),
    mixing=Mixing(num_sources=2, arrangement="released"),
    training=Training(epochs=100, batch_size=80, optimizer="sgd", learning_rate=1e-3, lr_drop_epochs=(40, 80)),
    evaluation=Evaluation(split="eval", whole_groups=True, num_mixtures=None),
)

if __name__ == "__main__":
    main(Experiment[SGNConfig], paper=PAPER, demo=demo_of(PAPER, SMALL_SGN), description=__doc__)
