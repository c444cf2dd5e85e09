#!/usr/bin/env python
"""Co-segmentation: which classes pictures show, where, and their sounds, by labels alone. Train, score, log to MLflow.

    ray job submit --working-dir . -- python jobs/cosegmentation.py music --data SHARDS

One evaluation has the separation, the accuracy of the classes by threshold and the maps, and one page shows them
together. --model.masks ratio learns shares; --model.no-segmenter is the paper's row "mask coefficient".
--data trains the paper's recipe. --preset demo trains a small network for some minutes. docs/cosegmentation.md says
more.
"""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / part) for part in (".", "platform")]

from cocktail.models.cosegmentation import SMALL_COSEGMENTATION, CoSegmentationConfig
from pipelines.experiments.benchmarks import COSEGMENT, COSEGMENTATION
from pipelines.experiments.command_line import TrainingJob

JOB = TrainingJob(
    name="cosegmentation",
    model=CoSegmentationConfig(),
    small=SMALL_COSEGMENTATION,
    training=COSEGMENTATION,
    benchmarks=COSEGMENT,
)

if __name__ == "__main__":
    JOB.main(__doc__)
