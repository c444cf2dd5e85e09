"""A scored run out of MLflow knows what it was scored on."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pyarrow.parquet as pq
import pytest

from cocktail.tracking.run import TrackedRun
from pipelines.experiments.scored_runs import document_command, machine_in_words, scored_runs
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
        ("", ""),
    ],
)  # fmt: skip
def test_a_command_in_a_document_names_no_place(command: str, shown: str):
    assert document_command(command) == shown


def test_a_machine_is_its_cores_and_gpus():
    none = {"driver": [], "cluster": []}
    assert machine_in_words({"cluster": {"CPU": 2.0}, "gpus": none}) == "2 cores"
    gpus = {"driver": ["NVIDIA H200"], "cluster": []}
    assert machine_in_words({"cluster": {"CPU": 16.0, "GPU": 2.0}, "gpus": gpus}) == "2 GPUs (NVIDIA H200), 16 cores"
