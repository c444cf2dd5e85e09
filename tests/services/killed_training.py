"""What the processes run that tests kill while they train. It lies apart so that they start fast."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cocktail.audio.mixing import mix
from cocktail.checkpoints.store import CheckpointStore
from cocktail.config.mixing import Mixing
from cocktail.config.training import Training
from cocktail.train.loop import train
from cocktail.train.worker import Worker
from cocktail.types import MixtureBatch
from pipelines.mixtures.stream import MixtureStream
from tests.made.corpora.toy_shards import RATE

SETTINGS = Training(
    epochs=4, batch_size=8, optimizer="adamw", lr_drop_epochs=(2,), checkpoint_every=3, log_every=1, keep_checkpoints=2
)


class Filter(nn.Module):
    """A network of a few weights, with dropout, over the mixtures."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Conv1d(1, 4, 9, stride=5), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Conv1d(4, 1, 1))

    def forward(self, batch: MixtureBatch) -> dict[str, torch.Tensor]:
        mixture, references = mix(batch)
        return {"total": (self.net(mixture[:, None]).mean(dim=(1, 2)) - references.std(dim=(1, 2))).square().mean()}


class Noting:
    """A source that notes, a line a step, which mixtures it gave, and takes its time over it."""

    def __init__(self, source: MixtureStream, notes: Path, pause: float) -> None:
        self._source, self._notes, self._pause = source, notes, pause

    @property
    def batches_per_epoch(self) -> int:
        return self._source.batches_per_epoch

    def state(self, step: int) -> dict[str, Any]:
        return self._source.state(step)

    def plan_ahead(self, epoch: int) -> None:
        self._source.plan_ahead(epoch)

    def batches(self, epoch: int, first: int, rank: int, world_size: int) -> Iterator[MixtureBatch]:
        for number, batch in enumerate(self._source.batches(epoch, first, rank, world_size), first):
            with self._notes.open("a") as file:
                file.write(json.dumps([epoch * self.batches_per_epoch + number, batch.mixture_ids]) + "\n")
            time.sleep(self._pause)
            yield batch


def train_noting(shards: str, folder: str, pause: float) -> None:
    """Train in this process, from the newest checkpoint of a folder to the end."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    stream = MixtureStream(
        folder=shards,
        mixing=Mixing(sample_rate_hz=RATE, segment_samples=2000, window_shards=2, passes_per_epoch=3),
        split="train",
        seed=0,
        batch_size=SETTINGS.batch_size,
        executor="inline",
    )
    train(
        Filter(),
        Noting(stream, Path(folder, "notes"), pause),
        SETTINGS,
        seed=0,
        worker=Worker(device=torch.device("cpu")),
        checkpoints=CheckpointStore(f"{folder}/checkpoints"),
        identity={},
        on_log=lambda step, num_steps, metrics: None,
    )
