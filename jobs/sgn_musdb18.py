#!/usr/bin/env python
"""SGN on MUSDB18 (SGN section IV-B): train on pairs of stems of a song, score, log to MLflow.

    ray job submit --working-dir . -- python jobs/sgn_musdb18.py --data SHARDS

--data takes shards made by jobs/shard_musdb18.py. --mixing.num-sources 4 takes all stems.
--preset demo trains a small network for a few minutes.
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

# The paper gives one SI-SDR and no protocol. A song leads a hundred mixtures an epoch, as a solo of MUSIC does. Of 50
# songs the middles alone would give 300 different pairs.
PAPER = Experiment[SGNConfig](
    name="sgn_musdb18",
    model=SGNConfig(width=256, depth=6),
    mixing=Mixing(num_sources=2, arrangement="released", passes_per_epoch=100),
    training=Training(epochs=100, batch_size=80, optimizer="sgd", learning_rate=1e-3, lr_drop_epochs=(40, 80)),
    evaluation=Evaluation(split="test", num_mixtures=1000, crop="random"),
)

if __name__ == "__main__":
    main(Experiment[SGNConfig], paper=PAPER, demo=demo_of(PAPER, SMALL_SGN), description=__doc__)
