"""Training on a Ray cluster alone, without evaluation, that notes who did which step where, and with what gradients."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray
import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

from cocktail.cluster.connection import connect
from cocktail.config.experiment import Experiment
from cocktail.config.resources import Resources
from cocktail.tracking.run import TrackedRun
from cocktail.train.ray_train import TrainingRun, fit
from cocktail.types import MixtureBatch
from pipelines.mixtures.stream import MixtureStream
from tests.made.models.small_experiment import SMALL

# The paper's rate: at a larger one, and with AdamW, rounding grows to more than 1e-5 in twenty steps. That nothing but
# rounding differs is seen in float64 (tests/train/test_distributed.py).
SYNCED = replace(
    SMALL,
    training=replace(SMALL.training, sync_batch_norm=True, log_every=1, optimizer="sgd", learning_rate=1e-3),
)


class StoppedError(RuntimeError):
    """The training process is to end here, and another one may go on."""


@dataclass(frozen=True)
class Noting:
    """A source that notes a line a step and worker, and takes its time over it."""

    source: MixtureStream
    notes: str
    pause: float = 0.0
    stops_at: int | None = None
    stops_with: type[Exception] = StoppedError

    @property
    def batches_per_epoch(self) -> int:
        return self.source.batches_per_epoch

    def state(self, step: int) -> dict[str, Any]:
        return self.source.state(step)

    def plan_ahead(self, epoch: int) -> None:
        self.source.plan_ahead(epoch)

    def batches(self, epoch: int, first: int, rank: int, world_size: int) -> Iterator[MixtureBatch]:
        who = {
            "rank": rank,
            "world_size": world_size,
            "pid": os.getpid(),
            "node": ray.get_runtime_context().get_node_id(),
        }
        step = epoch * self.batches_per_epoch + first
        gradients: list[str] = []

        def note_gradients(optimizer: torch.optim.Optimizer, *_: object) -> None:
            parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
            gradients.append(hashlib.sha256(b"".join(p.grad.numpy().tobytes() for p in parameters)).hexdigest())

        handle = register_optimizer_step_pre_hook(note_gradients)
        try:
            for batch in self.source.batches(epoch, first, rank, world_size):
                if step == self.stops_at:
                    raise self.stops_with("as it was to")
                begun = time.time()
                try:
                    yield batch
                    time.sleep(self.pause)
                finally:  # after an epoch's last batch nobody asks for another
                    if gradients:
                        self._note({**who, "step": step, "begun": begun, "gradients": gradients.pop()})
                step += 1
        finally:
            handle.remove()

    def _note(self, line: dict[str, Any]) -> None:
        with Path(self.notes, f"{line['rank']}-{line['pid']}.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")


def read_notes(folder: Path) -> list[dict[str, Any]]:
    """All workers' lines, by time. The last line of a killed process may be cut short."""
    lines = [line for path in folder.glob("*.jsonl") for line in path.read_text().splitlines()]
    return sorted((json.loads(line) for line in lines if line.endswith("}")), key=lambda note: note["begun"])


def train_noting(
    experiment: Experiment,
    folder: Path,
    pause: float = 0.0,
    stops_at: int | None = None,
    stops_with: type[Exception] = StoppedError,
) -> str:
    """Train in a folder from its newest checkpoint; notes go beside. Returns the last checkpoint's location."""
    connect()
    assert experiment.data is not None
    notes = folder / "notes"
    notes.mkdir(parents=True, exist_ok=True)
    stream = MixtureStream(
        folder=experiment.data,
        mixing=experiment.mixing,
        split="train",
        seed=experiment.seed,
        batch_size=experiment.training.batch_size,
        executor="inline",
    )
    tracked = TrackedRun.open(
        f"sqlite:///{folder / 'mlflow.db'}",
        str(folder / "artifacts"),
        experiment=experiment.name,
        name="run",
        key="key",
        params={},
    )
    return fit(
        TrainingRun(
            experiment=experiment,
            source=Noting(stream, str(notes), pause, stops_at, stops_with),
            num_classes=5,
            identity={},
            about={},
            folder=str(folder),
            tracked=tracked,
            gpus=False,
            look_at=lambda: (),
        )
    )


def losses(folder: Path) -> list[tuple[int, float]]:
    """(step, loss) as MLflow has them."""
    tracked = TrackedRun.open(
        f"sqlite:///{folder / 'mlflow.db'}", "", experiment="small", name="run", key="key", params={}
    )
    return tracked.history("loss/total")


if __name__ == "__main__":
    SHARDS, FOLDER, MIN_WORKERS = sys.argv[1:]
    resources = Resources(gpu="no", num_workers=2, min_workers=int(MIN_WORKERS), cpus_per_worker=1.0, executor="inline")
    train_noting(replace(SYNCED, data=SHARDS, resources=resources), Path(FOLDER), pause=0.3)
