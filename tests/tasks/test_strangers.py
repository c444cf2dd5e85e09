"""Models that the tasks have never seen, each a file of its own, learn a batch and are scored on it."""

from __future__ import annotations

import dataclasses
import importlib

import numpy as np
import pytest
import torch

from cocktail.config.evaluation import Evaluation
from cocktail.tasks.choice import task_of_results, tasks_of
from cocktail.tasks.rows import MODEL, rows_of, systems_of
from cocktail.types import MixtureBatch
from tests.made.models.small_avgn import MIXING
from tests.made.models.small_sgn import tones

SIDE = 8


def seen_tones() -> MixtureBatch:
    """Tones that are as loud, and whose pictures are as bright, as the class is high; an object is in their middle."""
    batch = tones([[0, 3], [2, 1], [3, 2]])
    pictures = (60 * batch.class_ids[..., None, None, None, None]).expand(3, 2, 1, SIDE, SIDE, 3)
    truth = torch.zeros(3, 2, SIDE, SIDE, dtype=torch.bool)
    truth[..., 2:6, 2:6] = True
    gains = 0.3 * (batch.class_ids + 1)
    return dataclasses.replace(
        batch, gains=gains, pictures=pictures.to(torch.uint8), truth=truth, has_truth=batch.present
    )


@pytest.mark.parametrize(
    ("name", "tasks"),
    [
        ("filters", ["separation"]),
        ("bands", ["separation"]),
        ("colours", ["separation"]),
        ("seers", ["separation", "localization"]),
    ],
)
def test_it_learns_where_it_can_and_is_scored_by_each_task_that_it_does(name, tasks):
    torch.manual_seed(0)
    batch = seen_tones()
    config = importlib.import_module(f"tests.made.strangers.{name}").StrangerConfig()
    model = config.build(4)
    if config.trains:
        adam = torch.optim.Adam(model.parameters(), lr=0.01)
        losses = []
        for _ in range(30):
            loss = model(batch)["total"]
            adam.zero_grad()
            loss.backward()
            adam.step()
            losses.append(loss.item())
        assert losses[-1] < 0.95 * losses[0]
    found = tasks_of(model.eval(), Evaluation(), MIXING)
    assert [task.name for task in found] == tasks
    for task in found:
        results = task.score(task.apply(name, model, batch)).cast(task.results)
        assert systems_of(results, MODEL) == [name]
        assert task.is_scored(rows_of(results, "kind", [MODEL])).all()
        board = task_of_results(results).scoreboard(results)
        mixtures = board.mixtures(results, name)
        assert np.isfinite(mixtures[board.groups[-1].headline.name].to_numpy()).all()
