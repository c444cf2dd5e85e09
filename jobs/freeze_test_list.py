#!/usr/bin/env python
"""Freeze test mixtures to a file: python jobs/freeze_test_list.py SHARDS LIST.parquet

The same clips, crops and pictures for every system that is scored with --evaluation.test-list LIST.parquet, whatever
draws mixtures later. The file has a hash; it is refused for other data, or if it is damaged.
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / part) for part in (".", "platform")]

import tyro

from cocktail.cluster.connection import one_line_errors
from cocktail.config.evaluation import Evaluation
from cocktail.config.mixing import Mixing
from cocktail.storage import absolute
from cocktail.types import require
from pipelines.plans.frozen_list import write_test_list
from pipelines.plans.plan import mixtures_in_words, plan_test
from pipelines.plans.pool import usable_clips
from pipelines.shards.manifest import open_manifest


@dataclass(frozen=True, kw_only=True)
class FreezeTestList:
    shards: tyro.conf.Positional[str]
    """Folder or URI of shards."""
    test_list: tyro.conf.Positional[str]
    """File or URI to write."""
    split: str = "test"
    """Split to take clips of."""
    mixing: Mixing = field(default_factory=Mixing)
    evaluation: Evaluation = field(default_factory=Evaluation)


if __name__ == "__main__":
    with one_line_errors():
        arguments = tyro.cli(FreezeTestList, description=__doc__)
        lent = arguments.evaluation.frames_from
        require(lent is None, "a list keeps its own pictures: give --evaluation.frames-from where it is scored")
        mixing = arguments.evaluation.test_mixing(arguments.mixing)
        pool = usable_clips(open_manifest(absolute(arguments.shards, "SHARDS")), mixing, arguments.split)
        plan = plan_test(pool, arguments.evaluation)
        location = absolute(arguments.test_list, "LIST")
        frozen = write_test_list(location, plan, pool)
        print(f"{mixtures_in_words(pool, arguments.evaluation)}\n{len(plan)} mixtures in {location}\nhash {frozen}")
