"""A sweep of small experiments, as a process of its own: python small_sweep.py SHARDS OUTPUT [sweep options]"""

import sys
from dataclasses import replace

import tyro

from cocktail.cluster.connection import one_line_errors
from cocktail.config.experiment import Experiment
from cocktail.config.resources import Resources
from cocktail.models.sgn import SGNConfig
from pipelines.papers.sgn import SGN
from pipelines.sweeps.options import SweepOptions
from pipelines.sweeps.sweep import sweep
from tests.made.models.small_experiment import SMALL


def base(shards: str, output: str) -> Experiment:
    """60 steps on toy shards, with as little as can be scored."""
    return replace(
        SMALL,
        data=shards,
        output=output,
        tracking_uri=None,
        training=replace(SMALL.training, epochs=12),
        evaluation=replace(SMALL.evaluation, num_mixtures=2, num_examples=0, num_looks=0),
        resources=Resources(gpu="no", executor="inline"),
    )


if __name__ == "__main__":
    with one_line_errors():
        options = tyro.cli(SweepOptions, args=sys.argv[3:])
        sweep(Experiment[SGNConfig], base(*sys.argv[1:3]), [], options, SGN)
