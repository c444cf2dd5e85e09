"""The loss on held-out mixtures: where it was lowest, and stopping when it no longer falls."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from cocktail.train.update import NonFiniteLossError
from cocktail.train.worker import Worker, share_buffers
from cocktail.types import MixtureBatch, Noting


@dataclass(frozen=True, kw_only=True)
class Validation:
    """Held-out mixtures, the same every time and on every worker; each worker computes its share."""

    batches: tuple[MixtureBatch, ...]
    every: int | None = None
    """Steps between validations; None is once an epoch."""

    def is_due(self, step: int, num_steps: int, batches_per_epoch: int) -> bool:
        return step % (self.every or batches_per_epoch) == 0 or step == num_steps

    @torch.no_grad()
    def losses(self, model: nn.Module, worker: Worker, dtype: torch.dtype | None) -> dict[str, float]:
        """Mean losses over the mixtures, `validation/...` by name; the same on all workers. A model that takes notes of
        held-out mixtures has taken them of these.

        Raises NonFiniteLossError if the total is no number: it would be taken for one that has not fallen.
        """
        sums: dict[str, torch.Tensor] = {}
        notes: torch.Tensor | None = None
        model.eval()
        share_buffers(model, worker)
        # Without a batch of its own a worker still adds, nothing, to sums that must have one form on all.
        numbers = range(worker.rank, len(self.batches), worker.world_size)
        shown = [self.batches[number] for number in numbers]
        for number, batch in zip(numbers or (0,), shown or self.batches[:1], strict=True):
            # A loss that draws, as AVSA-Sep's of what is shown, draws alike each time. Training steps seed anew.
            torch.manual_seed(number)
            with torch.autocast(worker.device.type, dtype=dtype, enabled=dtype is not None):
                losses = model(batch.to(worker.device))
                if isinstance(model, Noting):
                    noted = model.notes_of(batch.to(worker.device)) * bool(shown)
                    notes = noted if notes is None else notes + noted
            for name, loss in losses.items():
                sums[name] = sums.get(name, 0.0) + loss.double() * (len(batch) if shown else 0)
        model.train()
        count = sum(len(batch) for batch in self.batches)
        names = sorted(sums)
        totals = torch.stack([sums[name] for name in names])
        if worker.world_size > 1:
            dist.all_reduce(totals)
        if isinstance(model, Noting) and notes is not None:
            if worker.world_size > 1:
                dist.all_reduce(notes)
            model.keep_notes(notes)
        means = {f"validation/{name}": value / count for name, value in zip(names, totals.tolist(), strict=True)}
        if not math.isfinite(means["validation/total"]):
            raise NonFiniteLossError(f"the validation loss is not finite: {means}")
        return means


@dataclass
class BestValidation:
    """Lowest validation loss so far, and whether it has not fallen for `patience` validations in a row; with None that
    never stops training."""

    patience: int | None
    loss: float = float("inf")
    step: int | None = None
    since: int = 0
    """Validations since the lowest loss."""

    def update(self, loss: float, step: int) -> None:
        if loss < self.loss:
            self.loss, self.step, self.since = loss, step, 0
        else:
            self.since += 1

    @property
    def stops(self) -> bool:
        return self.patience is not None and self.since >= self.patience

    def state(self) -> dict[str, Any]:
        """State as a checkpoint holds it."""
        return {"best": self.loss, "best_step": self.step, "since": self.since}

    def load(self, state: dict[str, Any]) -> None:
        self.loss, self.step, self.since = state["best"], state["best_step"], state["since"]
