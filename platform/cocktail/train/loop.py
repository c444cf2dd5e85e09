"""The training loop: the only one, for every model, with or without Ray.

A run's state is its step, the model and the optimizer. Everything else is a function of the step: the
epoch and batch (so the mixtures), the learning rate, and the random numbers, which are seeded anew each
step. So training that is stopped anywhere and started from a checkpoint continues exactly.

A mixture with a damaged clip is dropped, and nothing takes its place: each mixture of a step weighs 1 / B, B the
size of the global batch, whatever else is there. So what is learned does not depend on which worker met it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from cocktail.config import Training
from cocktail.train.checkpoint import CheckpointStore, load_checkpoint, require_identity
from cocktail.train.look import Look, Place
from cocktail.types import BatchSource, MixtureBatch, Reading, UsageError


class NonFiniteLossError(RuntimeError):
    """A loss that is no number. Raised before the update, so the last checkpoint is sound."""


_READING = [field.name for field in fields(Reading)]


@dataclass
class _Meter:
    """Sums over the steps since the last log line."""

    sums: dict[str, Tensor] = field(default_factory=dict)
    steps: int = 0
    wait_seconds: float = 0.0
    reading: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_READING, 0))
    started: float = field(default_factory=time.perf_counter)

    def add(self, losses: dict[str, Tensor], wait_seconds: float, reading: Reading) -> None:
        for name, loss in losses.items():
            self.sums[name] = self.sums.get(name, 0.0) + loss.detach()
        self.steps += 1
        self.wait_seconds += wait_seconds
        for name in _READING:
            self.reading[name] += getattr(reading, name)

    def read(self, batch_size: int, place: Place) -> dict[str, float]:
        """Means over steps and workers, the speed, and what was read on all workers."""
        names = sorted(self.sums)
        means = torch.stack([self.sums[name].float() for name in names]) / self.steps
        reading = torch.tensor(list(self.reading.values()), dtype=torch.float64, device=place.device)
        if place.world_size > 1:
            dist.all_reduce(means)
            means /= place.world_size
            dist.all_reduce(reading)
        elapsed = time.perf_counter() - self.started
        bytes_read, bytes_fetched, hits, misses = reading.tolist()
        return {
            **{f"loss/{name}": value for name, value in zip(names, means.tolist(), strict=True)},
            "seconds_per_step": elapsed / self.steps,
            "mixtures_per_second": self.steps * batch_size / elapsed,
            "data_wait_share": self.wait_seconds / elapsed,
            "bytes_read_per_second": bytes_read / elapsed,
            "bytes_fetched_per_second": bytes_fetched / elapsed,
            **({"cache_hit_share": hits / (hits + misses)} if hits + misses else {}),
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
    look: Look | None = None,
    on_save: Callable[[int], None] | None = None,
) -> None:
    """Train a `Separator` from the newest checkpoint, or from its present weights, to the last step.

    `on_log(step, num_steps, metrics)` is called on every rank, `on_save(step)` on the first, just before a
    checkpoint is committed. Raises UsageError if the newest checkpoint belongs
    to other settings or other data, or if too many mixtures are dropped, NonFiniteLossError with the ids of the
    mixtures if a loss is no number.
    """
    model.to(place.device).train()
    optimizer = make_optimizer(model, settings)
    step, dropped_before = _restore(model, optimizer, checkpoints, identity, source)
    dropped: list[str] = []
    forward = nn.parallel.DistributedDataParallel(model) if place.world_size > 1 else model
    num_steps = settings.num_steps(source.batches_per_epoch)
    dtype = autocast_dtype(settings.precision, place.device)
    if step == 0 and look is not None:
        look.take(step, model, place)
    meter = _Meter()
    while step < num_steps:
        epoch, first = divmod(step, source.batches_per_epoch)
        set_learning_rate(optimizer, settings.learning_rate_at(epoch))
        batches = source.batches(epoch, first, place.rank, place.world_size)
        while step < num_steps and step // source.batches_per_epoch == epoch:
            waited = time.perf_counter()
            batch = next(batches)
            wait_seconds = time.perf_counter() - waited
            for line in batch.dropped:
                print(f"dropped at step {step + 1}: {line}", flush=True)
            dropped += batch.dropped
            share = settings.batch_size // place.world_size
            losses = _step(forward, optimizer, batch.to(place.device), share, dtype, (seed, step, place.rank))
            step += 1
            meter.add(losses, wait_seconds, batch.reading)
            last = step == num_steps
            logging = step % settings.log_every == 0 or last
            saving = step % settings.checkpoint_every == 0 or last
            if logging or saving:
                num_dropped = dropped_before + _sum_over_workers(len(dropped), place)
                _check_dropped(num_dropped, step, num_steps, source.batches_per_epoch, settings, dropped)
            if logging:
                metrics = meter.read(settings.batch_size, place)
                rest = {"learning_rate": optimizer.param_groups[0]["lr"], "dropped_mixtures": float(num_dropped)}
                on_log(step, num_steps, {**metrics, **rest})
                meter = _Meter()
            if look is not None:
                looked = time.perf_counter()
                look.after(step, num_steps, source.batches_per_epoch, model, place)
                meter.started += time.perf_counter() - looked
            if saving and place.rank == 0:
                data = {**source.state(step), "dropped": num_dropped}
                state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "data": data}
                if on_save is not None:
                    on_save(step)
                checkpoints.save(step, state, identity, settings.keep_checkpoints)


def _restore(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    checkpoints: CheckpointStore,
    identity: dict[str, Any],
    source: BatchSource,
) -> tuple[int, int]:
    """(steps done, mixtures dropped) of the newest checkpoint."""
    location = checkpoints.newest()
    if location is None:
        return 0, 0
    require_identity(location, identity)
    checkpoint = load_checkpoint(location)
    was = dict(checkpoint.state["data"])
    num_dropped = was.pop("dropped")
    now = source.state(checkpoint.step)
    differing = [f"{name} (was {was.get(name)}, is {now.get(name)})" for name in now if was.get(name) != now[name]]
    if differing:
        raise UsageError(
            f"{location} cannot go on with this data: {', '.join(differing)}. Set it back, or choose another --run-name"
        )
    model.load_state_dict(checkpoint.state["model"])
    optimizer.load_state_dict(checkpoint.state["optimizer"])
    return checkpoint.step, num_dropped


def _sum_over_workers(count: int, place: Place) -> int:
    total = torch.tensor(count, device=place.device)
    if place.world_size > 1:
        dist.all_reduce(total)
    return int(total)


def _check_dropped(
    num_dropped: int, step: int, num_steps: int, batches_per_epoch: int, settings: Training, dropped: list[str]
) -> None:
    """The limit is a share of the mixtures of all epochs that have begun: one damaged clip early on is not many."""
    begun = math.ceil(step / batches_per_epoch) * batches_per_epoch
    counted = settings.batch_size * min(begun, num_steps)
    if num_dropped > settings.max_dropped_share * counted:
        last = f" The last here: {dropped[-1]}" if dropped else ""
        raise UsageError(
            f"{num_dropped} of {counted} mixtures were dropped by step {step} because clips are damaged, more than "
            f"a share of {settings.max_dropped_share:g} (--training.max-dropped-share). "
            f"python jobs/verify.py SHARDS names the damaged clips.{last}"
        )


def _step(
    forward: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: MixtureBatch,
    share: int,
    dtype: torch.dtype | None,
    random_key: tuple[int, int, int],
) -> dict[str, Tensor]:
    seed, step, rank = random_key
    # One stream per (seed, step, rank): primes keep the three apart, whatever their values.
    torch.manual_seed(((seed * 1_000_003 + step) * 10_007 + rank) % 2**63)
    # Without a mixture, this worker still takes part in the others' step: with silence that weighs nothing.
    buffers = {} if len(batch) else {name: buffer.clone() for name, buffer in forward.named_buffers()}
    with torch.autocast(batch.sources.device.type, dtype=dtype, enabled=dtype is not None):
        losses = forward(batch if len(batch) else _silence(batch))
    # What was dropped of this worker's share weighs nothing; what is left weighs no more for it.
    if len(batch) < share:
        losses = {name: loss * (len(batch) / share) for name, loss in losses.items()}
    if not math.isfinite(losses["total"].item()):
        values = {name: loss.item() for name, loss in losses.items()}
        raise NonFiniteLossError(
            f"the loss is not finite at step {step + 1}: {values}; mixtures {', '.join(batch.mixture_ids)}"
        )
    optimizer.zero_grad(set_to_none=True)
    losses["total"].backward()
    optimizer.step()
    for name, buffer in forward.named_buffers():
        if name in buffers:  # silence leaves no trace in running statistics
            buffer.copy_(buffers[name])
    return losses


def _silence(batch: MixtureBatch) -> MixtureBatch:
    """Two silent mixtures of the form that an empty batch has."""
    rows = {
        name: value.new_zeros((2, *value.shape[1:]))
        for name in ("sources", "gains", "class_ids", "present", "pictures")
        if (value := getattr(batch, name)) is not None
    }
    num_sources = batch.sources.shape[1]
    classes = torch.arange(num_sources, device=batch.class_ids.device).expand(2, num_sources)
    return replace(batch, mixture_ids=("", ""), **{**rows, "class_ids": classes, "present": ~rows["present"]})


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
