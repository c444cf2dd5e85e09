"""What all pipelines of Ray Data have set."""

import time

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
