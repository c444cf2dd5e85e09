#!/usr/bin/env python
"""NMF-sup, separation by dictionaries of spectra: learned on the training sources of a benchmark, one for each class,
scored, and logged to MLflow.

    ray job submit --working-dir . -- python jobs/nmf_sup.py music --data SHARDS

--data trains on the paper's mixtures. --preset demo trains on shorter ones for a few minutes. jobs/nmf.py is blind.
"""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / part) for part in (".", "platform")]

from cocktail.config.training import Training
from cocktail.models.nmf_sup import SMALL_NMF_SUP, NMFSupConfig
from pipelines.experiments.benchmarks import SEPARATION
from pipelines.experiments.command_line import TrainingJob

# No paper says how; dictionaries are learned in some hundred steps, and settle as the learning rate falls.
RECIPE = Training(epochs=10, batch_size=32, optimizer="adam", learning_rate=1e-3, lr_drop_epochs=(), lr_cosine=True)

JOB = TrainingJob(
    name="nmf_sup",
    model=NMFSupConfig(),
    small=SMALL_NMF_SUP,
    training=RECIPE,
    benchmarks=SEPARATION,
)

if __name__ == "__main__":
    JOB.main(__doc__)
