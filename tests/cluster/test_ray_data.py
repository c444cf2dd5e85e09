"""What all pipelines of Ray Data have set."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import ray
import ray.data

from cocktail.cluster.ray_data import TURN_SECONDS, Pause, settle

pytestmark = pytest.mark.usefixtures("local_ray")


def test_the_thread_that_schedules_a_pipeline_pauses_each_turn(monkeypatch):
    turns: list[float] = []
    pause = Pause.on_execution_step

    def counted(self: Pause, executor) -> None:
        turns.append(time.perf_counter())
        pause(self, executor)

    monkeypatch.setattr(Pause, "on_execution_step", counted)
    blocks = [pa.table({"number": [number]}) for number in range(20)]
    dataset = ray.data.from_blocks(blocks).map_batches(lambda rows: rows, batch_format="pyarrow")
    settle(dataset.context)
    settle(dataset.context)
    assert sorted(row["number"] for row in dataset.iter_rows()) == list(range(20))
    assert len(turns) > 2
    assert np.diff(turns).min() >= 0.9 * TURN_SECONDS
    registered: list[type] = [*dataset.context.custom_execution_callback_classes]
    assert registered.count(Pause) == 1


POOL = """
import sys

from cocktail.cluster.connection import connect
from cocktail.cluster.ray_data import actor_pool, settle

connect()

import ray.data


class Double:
    def __call__(self, rows):
        return {"id": rows["id"] * 2}


doubled = ray.data.range(3)
settle(doubled.context)
doubled = doubled.map_batches(Double, compute=actor_pool(1, 1), num_cpus=0.5)
print(sorted(row["id"] for row in doubled.iter_rows()))
print("still heard", file=sys.stderr)
"""


@pytest.mark.slow  # what Ray says once a process, a process of its own has to not say
def test_a_pool_of_actors_has_no_line_that_looks_like_an_error():
    project = Path(__file__).parents[2]
    path = os.pathsep.join([str(project), str(project / "platform")])
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(
        [sys.executable, "-c", POOL], env=environment, capture_output=True, text=True, check=True, timeout=240
    )
    assert done.stdout.strip().endswith("[0, 2, 4]")
    assert "still heard" in done.stderr
    assert "core_worker.cc" not in done.stderr
    assert "execution finished" not in done.stdout + done.stderr
