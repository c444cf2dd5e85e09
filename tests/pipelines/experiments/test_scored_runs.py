"""A scored run out of MLflow knows what it was scored on."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pyarrow.parquet as pq

from cocktail.tracking.run import TrackedRun
from pipelines.experiments.scored_runs import scored_runs
from tests.made.results.sweep import made_results

TRAINED_ON = {"data": "/train", "manifest_hash": "1"}


@dataclass
class MadeRun:
    """An MLflow run that has results."""

    tags: dict[str, str]
    params: dict[str, str] = field(default_factory=dict)
    stored: tuple[str, ...] = ("results.parquet", "table.md")
    name: str = "made"
    artifacts: str = "/artifacts"

    def fetch(self, name: str, folder: Path) -> Path:
        pq.write_table(made_results("sgn", [1.0]), folder / name)
        return folder / name


def tags_of(tags: dict[str, str], data: str | None = None) -> dict[str, str]:
    (run,) = scored_runs(cast(TrackedRun, MadeRun(tags)), data)
    assert (run.name, run.own_system, run.test_list) == ("made", "sgn", None)
    return {name: run.tags[name] for name in TRAINED_ON}


def test_the_data_of_a_run_are_those_that_it_was_tested_on():
    assert tags_of(TRAINED_ON) == TRAINED_ON
    tested = {**TRAINED_ON, "test_data": "/test", "test_manifest_hash": "2"}
    assert tags_of(tested) == {"data": "/test", "manifest_hash": "2"}
    assert tags_of(tested, data="/moved") == {"data": "/moved", "manifest_hash": "2"}
