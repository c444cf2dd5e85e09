"""Models of a few weights, trained on noise without a cluster."""

from __future__ import annotations

import hashlib

import torch
from torch import nn

from cocktail.checkpoints.store import CheckpointStore, load_checkpoint
from cocktail.config.training import Training
from cocktail.train.loop import train
from cocktail.train.worker import Worker
from cocktail.types import MixtureBatch

SETTINGS = Training(
    epochs=3, batch_size=4, optimizer="adamw", lr_drop_epochs=(1,), checkpoint_every=4, log_every=2, keep_checkpoints=9
)


class Regressor(nn.Module):
    """A model with what makes resuming hard: dropout, BatchNorm, a loss that depends on the batch."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.Dropout(0.5), nn.Linear(16, 1))

    def forward(self, batch: MixtureBatch):
        predicted = self.net(batch.sources.float().flatten(1) / 32768)
        loss = (predicted.squeeze(1) - batch.class_ids[:, 0]).square().mean()
        return {"fit": loss, "total": loss}


class Noise:
    """Five batches an epoch, each a function of its address."""

    batches_per_epoch = 5

    def __init__(self, poisoned: tuple[int, int] | None = None):
        self.served: list[tuple[int, int]] = []
        self.planned: list[int] = []
        self.poisoned = poisoned
        self.manifest = "the same"

    def state(self, step):
        return {"epoch": step // 5, "batch": step % 5, "manifest": self.manifest}

    def plan_ahead(self, epoch):
        self.planned.append(epoch)

    def batches(self, epoch, first, rank, world_size):
        for number in range(first, self.batches_per_epoch):
            self.served.append((epoch, number))
            generator = torch.Generator().manual_seed(1000 * epoch + number)
            gains = torch.ones(4, 2)
            yield MixtureBatch(
                mixture_ids=tuple(f"{epoch}-{number}-{i}" for i in range(4)),
                sources=torch.randint(-32768, 32767, (4, 2, 4), generator=generator, dtype=torch.int16),
                gains=gains,
                class_ids=torch.randint(0, 3, (4, 2), generator=generator),
                present=torch.ones(4, 2, dtype=torch.bool),
            )


def run(folder, settings=SETTINGS, source=None, model=None, identity=None, **others):
    torch.manual_seed(7)
    logs: list[tuple[int, int, dict]] = []
    train(
        model or Regressor(),
        source or Noise(),
        settings,
        seed=3,
        worker=HERE,
        checkpoints=CheckpointStore(str(folder)),
        identity=identity or {"manifest": "m"},
        on_log=lambda *record: logs.append(record),
        **others,
    )
    return logs


def weights_hash(folder) -> str:
    newest = CheckpointStore(str(folder)).newest()
    assert newest is not None
    state = load_checkpoint(newest).state
    parts = [tensor.numpy().tobytes() for _, tensor in sorted(state["model"].items())]
    return hashlib.sha256(b"".join(parts)).hexdigest()


HERE = Worker(device=torch.device("cpu"))
