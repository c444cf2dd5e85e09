#!/usr/bin/env python
"""AVGN's ablations as a sweep: the rows of the paper's Table 4 and 3, or any grid over settings, under Ray Tune.

    ray job submit --working-dir . -- python jobs/ablate_avgn.py --data SHARDS --grid both

--data takes shards of MUSIC (jobs/shard_music.py) of solos and duets with boxes, as jobs/avgn_music.py does; the
paper's tables are on them. Without it, the rows are trained on the small corpus, each for some minutes. --over
PATH=V1,V2,... makes a grid of your own out of the options below. The same command goes on after a kill.
docs/sweeps.md has more.
"""

import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / part) for part in (".", "platform")]

import tyro

from cocktail.cluster.connection import one_line_errors
from cocktail.config.experiment import Experiment
from cocktail.models.avgn import SMALL_AVGN, AVGNConfig
from jobs import avgn_music, avgn_vggsound
from pipelines.experiments.benchmarks import localizing_demo_of
from pipelines.experiments.command_line import parse
from pipelines.sweeps.grids import Grid, Row
from pipelines.sweeps.options import SweepOptions
from pipelines.sweeps.sweep import sweep

PAPER = replace(avgn_music.PAPER, name="ablate_avgn")
# The small corpus is split as VGG-Sound is.
DEMO = localizing_demo_of(replace(avgn_vggsound.PAPER, name="ablate_avgn"), SMALL_AVGN)

DEPTH = Grid(
    title="Table 4",
    rows=(
        *(
            Row(label=f"depth {depth}", settings={"model.depth": depth, "model.assignment": "soft"})
            for depth in ("1", "3", "6", "12")
        ),
        Row(label="depth 3, hard", settings={"model.depth": "3", "model.assignment": "hard"}),
    ),
)
SWITCHES = Grid(
    title="Table 3",
    rows=tuple(
        Row(label=label, settings={"model.source_vectors": vectors})
        for label, vectors in (
            ("no AVCT, no AVG", "pooled"),
            ("AVCT only", "tokens"),
            ("AVG only", "grouped_queries"),
            ("AVCT and AVG", "grouped_tokens"),
        )
    ),
)
GRIDS = {"depth": (DEPTH,), "switches": (SWITCHES,), "both": (DEPTH, SWITCHES)}


@dataclass(frozen=True, kw_only=True)
class Arguments:
    grid: Literal["depth", "switches", "both"] | None = None
    """Table 4 (depth, and hard assignment), Table 3 (class tokens and grouping), or both, and what is in both once.
    None is depth, or, with --over, no other grid than that."""
    options: Annotated[SweepOptions, tyro.conf.arg(name="")] = field(default_factory=SweepOptions)
    experiment: Annotated[Experiment[AVGNConfig], tyro.conf.arg(name="")]


if __name__ == "__main__":
    with one_line_errors():
        paper, demo = Arguments(experiment=PAPER), Arguments(experiment=DEMO)
        job = parse(Arguments, sys.argv[1:], paper=paper, demo=demo, description=__doc__)
        grid = job.grid or (None if job.options.over else "depth")
        sys.exit(sweep(Experiment[AVGNConfig], job.experiment, GRIDS[grid] if grid else (), job.options))
