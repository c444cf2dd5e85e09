"""The training loop: the only one, for every model, with or without Ray.

A run's state is its step, the model and the optimizer. Everything else is a function of the step: the
epoch and batch (so the mixtures), the learning rate, and the random numbers, which are seeded anew each
step. So training that is stopped anywhere and started from a checkpoint continues exactly.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from cocktail.config import Training
from cocktail.train.checkpoint import CheckpointStore, load_checkpoint, require_identity
from cocktail.types import BatchSource, MixtureBatch


class NonFiniteLossError(RuntimeError):
    """A loss that is no number. Raised before the update, so the last checkpoint is sound."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where this process trains, among how many."""

    device: torch.device
    rank: int = 0
    world_size: int = 1


@dataclass
class _Meter:
    """Sums over the steps since the last log line."""

    sums: dict[str, Tensor] = field(default_factory=dict)
    steps: int = 0
    wait_seconds: float = 0.0
    started: float = field(default_factory=time.perf_counter)

    def add(self, losses: dict[str, Tensor], wait_seconds: float) -> None:
        for name, loss in losses.items():
            self.sums[name] = self.sums.get(name, 0.0) + loss.detach()
        self.steps += 1
        self.wait_seconds += wait_seconds

    def read(self, batch_size: int, world_size: int) -> dict[str, float]:
        """Means over steps and workers, and the speed."""
        names = sorted(self.sums)
        means = torch.stack([self.sums[name].float() for name in names]) / self.steps
        if world_size > 1:
            dist.all_reduce(means)
            means /= world_size
        elapsed = time.perf_counter() - self.started
        return {
            **{f"loss/{name}": value for name, value in zip(names, means.tolist(), strict=True)},
            "seconds_per_step": elapsed / self.steps,
            "mixtures_per_second": self.steps * batch_size / elapsed,
            "data_wait_share": self.wait_seconds / elapsed,
        }


def train(
    model: nn.Module,
    source: BatchSource,
    settings: Training,
    *,
    seed: int,
    place: Place,
    checkpoints: CheckpointStore,
    identity: dict[str, Any],
    on_log: Callable[[int, int, dict[str, float]], None],
) -> None:
    """Train a `Separator` from the newest checkpoint, or from its present weights, to the last step.

    `on_log(step, num_steps, metrics)` is called on every rank. Raises UsageError if the newest checkpoint belongs
    to other settings, NonFiniteLossError with the ids of the mixtures if a loss is no number.
    """
    model.to(place.device).train()
    optimizer = make_optimizer(model, settings)
    step = _restore(model, optimizer, checkpoints, identity)
    forward = nn.parallel.DistributedDataParallel(model) if place.world_size > 1 else model
    num_steps = settings.num_steps(source.batches_per_epoch)
    dtype = autocast_dtype(settings.precision, place.device)
    meter = _Meter()
    while step < num_steps:
        epoch, first = divmod(step, source.batches_per_epoch)
        set_learning_rate(optimizer, settings.learning_rate_at(epoch))
        batches = source.batches(epoch, first, place.rank, place.world_size)
        while step < num_steps and step // source.batches_per_epoch == epoch:
            waited = time.perf_counter()
            batch = next(batches)
            wait_seconds = time.perf_counter() - waited
            losses = _step(forward, optimizer, batch.to(place.device), dtype, (seed, step, place.rank))
            step += 1
            meter.add(losses, wait_seconds)
            last = step == num_steps
            if step % settings.log_every == 0 or last:
                metrics = meter.read(settings.batch_size, place.world_size)
                on_log(step, num_steps, {**metrics, "learning_rate": optimizer.param_groups[0]["lr"]})
                meter = _Meter()
            if (step % settings.checkpoint_every == 0 or last) and place.rank == 0:
                state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
                checkpoints.save(step, state, identity, settings.keep_checkpoints)


def _restore(
    model: nn.Module, optimizer: torch.optim.Optimizer, checkpoints: CheckpointStore, identity: dict[str, Any]
) -> int:
    location = checkpoints.newest()
    if location is None:
        return 0
    require_identity(location, identity)
    checkpoint = load_checkpoint(location)
    model.load_state_dict(checkpoint.state["model"])
    optimizer.load_state_dict(checkpoint.state["optimizer"])
    return checkpoint.step


def _step(
    forward: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: MixtureBatch,
    dtype: torch.dtype | None,
    random_key: tuple[int, int, int],
) -> dict[str, Tensor]:
    seed, step, rank = random_key
    # One stream per (seed, step, rank): primes keep the three apart, whatever their values.
    torch.manual_seed(((seed * 1_000_003 + step) * 10_007 + rank) % 2**63)
    with torch.autocast(batch.sources.device.type, dtype=dtype, enabled=dtype is not None):
        losses = forward(batch)
    if not math.isfinite(losses["total"].item()):
        values = {name: loss.item() for name, loss in losses.items()}
        raise NonFiniteLossError(
            f"the loss is not finite at step {step + 1}: {values}; mixtures {', '.join(batch.mixture_ids)}"
        )
    optimizer.zero_grad(set_to_none=True)
    losses["total"].backward()
    optimizer.step()
    return losses


def make_optimizer(model: nn.Module, settings: Training) -> torch.optim.Optimizer:
    """The optimizer that the settings name, over all of a model's parameters."""
    if settings.optimizer == "sgd":
        return torch.optim.SGD(
            model.parameters(),
            lr=settings.learning_rate,
            momentum=settings.momentum,
            weight_decay=settings.weight_decay,
        )
    return torch.optim.AdamW(model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """One learning rate for all parameters."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate


def autocast_dtype(precision: str, device: torch.device) -> torch.dtype | None:
    """The type that matrix products run in, or None for float32."""
    if precision == "bfloat16":
        return torch.bfloat16
    if precision == "auto" and device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.bfloat16
    return None
