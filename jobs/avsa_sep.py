#!/usr/bin/env python
"""AVSA-Sep, separation of what is seen and of what is only heard: train on a benchmark, score, log to MLflow.

    ray job submit --working-dir . -- python jobs/avsa_sep.py music --data SHARDS

--data trains the paper's recipe: three sources, three pictures each, of which a test withholds those of one source.
--preset demo trains a small network for some minutes, with one picture a source. Of its Table 3
    --mixing.num-sources 2 is AVSA-Sep, with --model.branches labels SG-Sep,
    --evaluation.split train --evaluation.crop random --evaluation.allow-trained-on is On Train Set,
    --evaluation.frames-from train is w/ Train Frames, both of which jobs/evaluate.py takes, too.
"""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / part) for part in (".", "platform")]

from cocktail.models.avsa_sep import SMALL_AVSA_SEP, AVSASepConfig
from pipelines.experiments.benchmarks import SEPARATION_OF_SCENES, SGD
from pipelines.experiments.command_line import TrainingJob

JOB = TrainingJob(
    name="avsa_sep",
    model=AVSASepConfig(),
    small=SMALL_AVSA_SEP,
    training=SGD,
    benchmarks=SEPARATION_OF_SCENES,
)

if __name__ == "__main__":
    JOB.main(__doc__)
