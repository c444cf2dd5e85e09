#!/usr/bin/env python
"""SGN on VGG-Sound: train on mixtures of two classes, score on the frozen test list, log to MLflow.

    ray job submit --working-dir . -- python jobs/sgn_vggsound.py --data SHARDS

--data takes shards made by jobs/shard_vggsound.py and trains the paper's recipe on them. Without it, a small corpus
of sampled instruments is made on first use and a small network trained for a few minutes.
"""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / part) for part in (".", "platform")]

from cocktail.models.sgn import SMALL_SGN, SGNConfig
from pipelines.experiments.benchmarks import SEPARATE_VGGSOUND, SGD
from pipelines.experiments.command_line import TrainingJob

JOB = TrainingJob(
    name="sgn",
    model=SGNConfig(),
    small=SMALL_SGN,
    training=SGD,
    benchmarks=(SEPARATE_VGGSOUND,),
)

if __name__ == "__main__":
    JOB.main(__doc__)
