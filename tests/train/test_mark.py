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

PLACING = "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"


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
            given[-1]["seconds"] = os.environ.get(PLACING)
            for mark in Path(given[0]["run_config"].storage_path).glob("*.mark"):
                mark.unlink()
            self.function()

    monkeypatch.setattr(ray_train, "TorchTrainer", Trainer)
    monkeypatch.setattr(ray_train, "_train_here", lambda *_: pytest.fail("training has begun"))
    monkeypatch.delenv(PLACING, raising=False)
    monkeypatch.delenv("COCKTAIL_AUTOSCALING", raising=False)
    return given


def start(tmp_path: Path, min_workers: int | None) -> None:
    """Start a training on another folder than the driver's, which is refused."""
    resources = Resources(num_workers=4, min_workers=min_workers)
    run: Any = SimpleNamespace(experiment=SimpleNamespace(resources=resources), folder=str(tmp_path), gpus=False)
    with pytest.raises(UsageError, match="does not see"):
        ray_train._train_on_cluster(run)


@pytest.mark.parametrize(
    ("min_workers", "grows", "seconds"),
    [(None, False, None), (None, True, "3600"), (4, True, None), (4, False, None), (2, False, "10"), (2, True, "10")],
)
def test_places_are_waited_for_as_a_run_needs_and_the_next_run_knows_nothing_of_it(
    tmp_path, trainer, monkeypatch, min_workers, grows, seconds
):
    """An elastic run does not wait a minute for places on a node that is dead; nodes that start install for long."""
    if grows:
        monkeypatch.setenv("COCKTAIL_AUTOSCALING", "1")
    start(tmp_path, min_workers)
    assert trainer[0]["seconds"] == seconds
    assert PLACING not in os.environ


@pytest.mark.parametrize("min_workers", [None, 2])
def test_how_long_a_user_has_places_waited_for_stays(tmp_path, trainer, monkeypatch, min_workers):
    monkeypatch.setenv("COCKTAIL_AUTOSCALING", "1")
    monkeypatch.setenv(PLACING, "5")
    start(tmp_path, min_workers)
    assert trainer[0]["seconds"] == "5"
    assert os.environ[PLACING] == "5"


def test_no_mark_is_left_of_a_training_that_has_ended(tmp_path, monkeypatch, trainer):
    monkeypatch.setattr(ray_train.TorchTrainer, "fit", lambda self: None)
    run: Any = SimpleNamespace(experiment=SimpleNamespace(resources=Resources()), folder=str(tmp_path), gpus=False)
    ray_train._train_on_cluster(run)
    assert not list(tmp_path.rglob("*.mark"))


@pytest.mark.parametrize(("keep", "gpus", "kept"), [(True, False, True), (True, True, False), (False, False, False)])
def test_training_processes_on_cpus_keep_their_memory_unless_told_not_to(
    tmp_path, trainer, monkeypatch, keep, gpus, kept
):
    monkeypatch.setattr(ray_train.TorchTrainer, "fit", lambda self: None)
    resources = Resources(keep_memory=keep)
    run: Any = SimpleNamespace(experiment=SimpleNamespace(resources=resources), folder=str(tmp_path), gpus=gpus)
    ray_train._train_on_cluster(run)
    environment = trainer[0]["run_config"].worker_runtime_env["env_vars"]
    assert ("glibc.malloc.mmap_max=0" in environment.get("GLIBC_TUNABLES", "")) == kept


@pytest.mark.parametrize("raised", [KeyboardInterrupt, RuntimeError])
def test_nor_of_one_that_was_stopped(tmp_path, monkeypatch, trainer, raised):
    def fit(self: Any) -> None:
        raise raised

    monkeypatch.setattr(ray_train.TorchTrainer, "fit", fit)
    run: Any = SimpleNamespace(experiment=SimpleNamespace(resources=Resources()), folder=str(tmp_path), gpus=False)
    with pytest.raises(raised):
        ray_train._train_on_cluster(run)
    assert not list(tmp_path.rglob("*.mark"))
