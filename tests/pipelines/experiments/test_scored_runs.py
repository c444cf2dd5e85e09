"""A scored run out of MLflow knows what it was scored on."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pyarrow.parquet as pq
import pytest

from cocktail.tracking.run import TrackedRun
from pipelines.experiments.scored_runs import document_command, scored_runs
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


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        ("/home/me/jobs/sgn.py --output /home/me/out --seed 3", "python jobs/sgn.py --seed 3"),
        ("jobs/avgn.py vggsound --data=/a --evaluation.data /b", "python jobs/avgn.py vggsound --data SHARDS "
         "--evaluation.data SHARDS"),
        ("jobs/evaluate.py s3://b/run/step-00000300 --tracking_uri http://h", "python jobs/evaluate.py CHECKPOINT"),
        ("jobs/sgn.py --evaluation.test-list 'my list.parquet'", "python jobs/sgn.py --evaluation.test-list LIST"),
        ("jobs/sgn.py --model.weights /home/me/w.pt --x=s3://b/y", "python jobs/sgn.py --model.weights PATH --x=PATH"),
        ("jobs/sgn.py --start-from=/a/step-00000010", "python jobs/sgn.py --start-from CHECKPOINT"),
        ("jobs/sgn.py --start_from outputs/runs/x --x ../y", "python jobs/sgn.py --start-from CHECKPOINT --x PATH"),
        ("jobs/sgn.py --model.initial-weights w.pth", "python jobs/sgn.py --model.initial-weights WEIGHTS"),
        ("jobs/sgn.py --model.initial-weights none --data None", "python jobs/sgn.py --model.initial-weights none "
         "--data None"),
        ("jobs/ablate_sgn.py --over data=/a,b model.depth=1,2", "python jobs/ablate_sgn.py --over data=SHARDS,SHARDS "
         "model.depth=1,2"),
        ("jobs/ablate_sgn.py --over=start_from=a,b", "python jobs/ablate_sgn.py "
         "--over=start_from=CHECKPOINT,CHECKPOINT"),
        ("jobs/sgn.py --x=/a/step-00000010", "python jobs/sgn.py --x=CHECKPOINT"),
        ("", ""),
    ],
)  # fmt: skip
def test_a_command_in_a_document_names_no_place(command: str, shown: str):
    assert document_command(command) == shown
