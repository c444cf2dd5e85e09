#!/usr/bin/env python
"""SGN's ablations as a sweep: the rows of the paper's Table IV and III, or any grid over settings, under Ray Tune.

    ray job submit --working-dir . -- python jobs/ablate_sgn.py --data SHARDS --grid both

--data takes shards of MUSIC (jobs/shard_music.py), on which the paper's tables are. Without it, the rows are trained
on the small corpus, each for a few minutes. --over PATH=V1,V2,... makes a grid of your own out of the options below.
The same command goes on after a kill. docs/sweeps.md has more.
"""

import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / part) for part in (".", "platform")]

import tyro

from cocktail.cluster.connection import one_line_errors
from cocktail.config.experiment import Experiment
from cocktail.models.sgn import SMALL_SGN, SGNConfig
from jobs import sgn_music, sgn_vggsound
from pipelines.experiments.benchmarks import demo_of
from pipelines.experiments.command_line import parse
from pipelines.sweeps.grids import Grid, Row
from pipelines.sweeps.options import SweepOptions
from pipelines.sweeps.sweep import sweep

PAPER = replace(sgn_music.PAPER, name="ablate_sgn")
# The small corpus is split as VGG-Sound is.
DEMO = demo_of(replace(sgn_vggsound.PAPER, name="ablate_sgn"), SMALL_SGN)

DEPTH = Grid(
    title="Table IV",
    rows=(
        *(
            Row(label=f"depth {depth}", settings={"model.depth": depth, "model.assignment": "soft"})
            for depth in ("1", "3", "6", "12")
        ),
        Row(label="depth 6, hard", settings={"model.depth": "6", "model.assignment": "hard"}),
    ),
)
SWITCHES = Grid(
    title="Table III",
    rows=tuple(
        Row(label=label, settings={"model.source_vectors": vectors})
        for label, vectors in (
            ("no SCT, no CAG", "pooled_slots"),
            ("SCT only", "tokens"),
            ("CAG only", "grouped_queries"),
            ("SCT and CAG", "grouped_tokens"),
            ("static class", "static_class"),  # not the paper's: what grouping adds to knowing the class
        )
    ),
)
GRIDS = {"depth": (DEPTH,), "switches": (SWITCHES,), "both": (DEPTH, SWITCHES)}


@dataclass(frozen=True, kw_only=True)
class Arguments:
    grid: Literal["depth", "switches", "both"] | None = None
    """Table IV (depth, and hard assignment), Table III (class tokens and grouping), or both, and what is in both once.
    None is depth, or, with --over, no other grid than that."""
    options: Annotated[SweepOptions, tyro.conf.arg(name="")] = field(default_factory=SweepOptions)
    experiment: Annotated[Experiment[SGNConfig], tyro.conf.arg(name="")]


if __name__ == "__main__":
    with one_line_errors():
        paper, demo = Arguments(experiment=PAPER), Arguments(experiment=DEMO)
        job = parse(Arguments, sys.argv[1:], paper=paper, demo=demo, description=__doc__)
        grid = job.grid or (None if job.options.over else "depth")
        sys.exit(sweep(Experiment[SGNConfig], job.experiment, GRIDS[grid] if grid else (), job.options))
