"""A run's folder is one that all of its nodes see, or training does not begin."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch.distributed as dist

from cocktail.config.resources import Resources
from cocktail.train import ray_train
from cocktail.train.ray_train import Mark
from cocktail.types import UsageError


def test_who_sees_the_drivers_mark_may_begin(tmp_path):
    Mark.leave(f"{tmp_path}/run/ray/start.mark").require_seen()


@pytest.mark.parametrize("text", [None, "of another run of the same name, on this node's own disk"])
def test_who_sees_another_folder_says_so_in_one_line(tmp_path, text):
    mark = Mark.leave(f"{tmp_path}/run/ray/start.mark")
    path = Path(mark.location)
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(UsageError, match=rf"^{socket.gethostname()} does not see {tmp_path}/run, .*\(s3://") as refused:
        mark.require_seen()
    assert "\n" not in str(refused.value)


def test_who_sees_it_names_those_that_do_not_and_can_write_it_down(tmp_path, monkeypatch):
    mark = Mark.leave(f"{tmp_path}/run/ray/start.mark")

    def gather(everyones: list[Any], mine: Any) -> None:
        assert mine is None
        everyones[:] = [mine, "far", "away", "far"]

    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: 4)
    monkeypatch.setattr(dist, "all_gather_object", gather)
    with pytest.raises(UsageError, match=r"^away, far does not see"):
        mark.require_seen()


@pytest.fixture
def trainer(monkeypatch) -> list[dict[str, Any]]:
    """What Ray's trainer was given, which runs its worker here, where the driver's disk is not."""
    given: list[dict[str, Any]] = []

    class Trainer:
        def __init__(self, function: Any, **options: Any) -> None:
            self.function = function
            given.append(options)

        def fit(self) -> None:
            for mark in Path(given[0]["run_config"].storage_path).glob("*.mark"):
                mark.unlink()
            self.function()

    monkeypatch.setattr(ray_train, "TorchTrainer", Trainer)
    monkeypatch.setattr(ray_train, "_train_here", lambda *_: pytest.fail("training has begun"))
    monkeypatch.delenv("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", raising=False)
    return given


@pytest.mark.parametrize(("min_workers", "seconds"), [(None, None), (4, None), (2, "10")])
def test_no_step_is_taken_where_the_folder_is_not_shared(tmp_path, trainer, monkeypatch, min_workers, seconds):
    """An elastic run does not wait a minute, either, for places on a node that is dead."""
    resources = Resources(num_workers=4, min_workers=min_workers)
    run: Any = SimpleNamespace(experiment=SimpleNamespace(resources=resources), folder=str(tmp_path), gpus=False)
    with monkeypatch.context() as context:
        context.setenv("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "")
        context.delenv("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S")
        with pytest.raises(UsageError, match="does not see"):
            ray_train._train_on_cluster(run)
        assert os.environ.get("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S") == seconds
