"""The training loop: the only one, for every model, with or without Ray.

A run's state is its step, the model, the optimizer with its scale, and what early stopping has seen. Everything else
is a function of the step: the epoch and batch (so the mixtures), the learning rate, and the random numbers, which are
seeded anew each step. So training that is stopped anywhere and started from a checkpoint continues exactly.

A mixture with a damaged clip is dropped, and nothing takes its place: each mixture of a step weighs 1 / B, B the
size of the global batch, whatever else is there. So what is learned does not depend on which worker met it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from cocktail.config.training import Training
from cocktail.numerics.batch_norm import own_buffers, set_counted, synchronize_batch_norm
from cocktail.numerics.randomness import rows_of_batch
from cocktail.train.checkpoint import CheckpointStore, CheckpointWriter, load_checkpoint, require_identity
from cocktail.train.look import Look
from cocktail.train.meter import Meter
from cocktail.train.update import Update
from cocktail.train.validation import EarlyStopping, Validation
from cocktail.train.worker import Place
from cocktail.types import BatchSource, MixtureBatch, UsageError, share_of


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
    validation: Validation | None = None,
    compiled: bool = False,
    on_save: Callable[[int], None] | None = None,
) -> None:
    """Train a model from the newest checkpoint, or from its present weights, to the last step.

    `on_log(step, num_steps, metrics)` is called on every rank; early stopping makes its step the last. `on_save(step)`
    is called on the first rank, just before a checkpoint is committed. Raises UsageError if the newest checkpoint
    belongs to other settings or other data, or if too many mixtures are dropped, NonFiniteLossError if a loss or
    gradient is no number: in training with the ids of the mixtures.
    """
    model.to(place.device).train()
    if settings.sync_batch_norm:
        synchronize_batch_norm(model)
    update = Update(model, settings, place)
    stopping = EarlyStopping(settings.patience)
    step, dropped_before = _restore(model, update, stopping, checkpoints, identity, source, place)
    dropped: list[str] = []
    if compiled:
        model.compile()
    num_steps = settings.num_steps(source.batches_per_epoch)
    dtype = autocast_dtype(settings.precision, place.device)
    steps = Steps(model, settings, place, dtype, seed)

    def batches_from(step: int) -> Iterator[MixtureBatch]:
        epoch, first = divmod(step, source.batches_per_epoch)
        return begun(source.batches(epoch, first, place.rank, place.world_size))

    # Before the first look: a pipeline takes seconds to start.
    batches = batches_from(step) if step < num_steps and not stopping.stops else iter(())
    if step == 0 and look is not None:
        look.take(step, model, place)
    meter = Meter()
    with CheckpointWriter(checkpoints, identity, settings.keep_checkpoints) as writer:
        while step < num_steps and not stopping.stops:
            epoch = step // source.batches_per_epoch
            update.learning_rate = settings.learning_rate_at(epoch)
            arriving = on_device(batches, place.device)
            while step < num_steps and step // source.batches_per_epoch == epoch and not stopping.stops:
                with meter.timing("data"):
                    batch = next(arriving)
                for line in batch.dropped:
                    print(f"dropped at step {step + 1}: {line}", flush=True)
                dropped += batch.dropped
                losses, norm = steps.take(step, batch, update)
                step += 1
                meter.add(losses, norm, batch.read_statistics)
                validated: dict[str, float] = {}
                if validation is not None and validation.is_due(step, num_steps, source.batches_per_epoch):
                    with meter.timing("validation"):
                        validated = validation.losses(model, place, dtype)
                    stopping.update(validated["validation/total"], step)
                last = step == num_steps or stopping.stops
                best = stopping.best_step if settings.select == "best" else None
                saving = step % settings.checkpoint_every == 0 or last or step == best
                # With each checkpoint, too: means over steps before it are not there to go on from.
                logging = step % settings.log_every == 0 or saving or bool(validated)
                if logging:
                    update.require_finite()
                    num_dropped = dropped_before + _sum_over_workers(len(dropped), place)
                    _check_dropped(num_dropped, step, num_steps, source.batches_per_epoch, settings, dropped)
                if logging:
                    metrics = meter.read(settings.batch_size, place)
                    meter = Meter()
                    rest = {"learning_rate": update.learning_rate, "dropped_mixtures": float(num_dropped)}
                    if update.scaler.is_enabled():
                        rest["loss_scale"] = update.scaler.get_scale()
                    with meter.timing("log"):
                        on_log(step, step if stopping.stops else num_steps, {**metrics, **validated, **rest})
                if look is not None:
                    with meter.timing("look"):
                        look.after(step, num_steps, source.batches_per_epoch, model, place)
                if saving and place.rank == 0:
                    with meter.timing("checkpoint"):
                        data = {**source.state(step), "dropped": num_dropped}
                        if on_save is not None:
                            on_save(step)
                        state = {"model": model.state_dict(), **update.state(), "stopping": stopping.state()}
                        writer.save(step, {**state, "data": data}, best)
            if step < num_steps and not stopping.stops:
                batches = batches_from(step)
    if stopping.stops and place.rank == 0:
        print(
            f"stopped at step {step}: the validation loss has not fallen for {stopping.since} validations", flush=True
        )


def _restore(
    model: nn.Module,
    update: Update,
    stopping: EarlyStopping,
    checkpoints: CheckpointStore,
    identity: dict[str, Any],
    source: BatchSource,
    place: Place,
) -> tuple[int, int]:
    """(steps done, mixtures dropped) of the newest checkpoint that the first worker sees: others may see another."""
    chosen = [checkpoints.newest() if place.rank == 0 else None]
    if place.world_size > 1:
        dist.broadcast_object_list(chosen, src=0, device=place.device)
    (location,) = chosen
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
    update.load(checkpoint.state)
    stopping.load(checkpoint.state["stopping"])
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


class Steps:
    """Takes a training step on this worker's share of a batch."""

    def __init__(
        self, model: nn.Module, settings: Training, place: Place, dtype: torch.dtype | None, seed: int
    ) -> None:
        alone = place.world_size == 1
        self._model = model
        self._forward = model if alone else nn.parallel.DistributedDataParallel(model, gradient_as_bucket_view=True)
        self._place = place
        self._dtype = dtype
        self._seed = seed
        self._batch_size = settings.batch_size
        self._num_parts = settings.accumulate
        self._first, self._share = share_of(settings.batch_size, place.rank, place.world_size)

    def take(self, step: int, batch: MixtureBatch, update: Update) -> tuple[dict[str, Tensor], Tensor]:
        """Losses and the gradient's norm of the step after `step`, with its update done.

        Losses are scaled so that their mean over workers is that over the mixtures of the whole batch.
        """
        # Every worker draws the numbers of the whole batch: primes keep (seed, step) apart, whatever their values.
        torch.manual_seed(((self._seed * 1_000_003 + step) * 10_007) % 2**63)
        total: dict[str, Tensor] = {}
        planned = [self._first + row for row in range(self._share) if row not in batch.dropped_rows]
        assert len(planned) == len(batch)
        rows = torch.tensor(planned, dtype=torch.int64).to(self._place.device, non_blocking=True)
        for number in range(self._num_parts):
            first, length = share_of(self._share, number, self._num_parts)
            part = batch.rows(first, min(first + length, len(batch)))
            last = number == self._num_parts - 1
            for name, loss in self._add_gradient(part, rows[first : first + length], last, update).items():
                total[name] = total[name] + loss if name in total else loss
        return total, update.apply(step + 1, total, batch.mixture_ids)

    def _add_gradient(self, part: MixtureBatch, rows: Tensor, last: bool, update: Update) -> dict[str, Tensor]:
        # Without a mixture, this worker still takes part in the others' step: with silence that weighs nothing.
        silent = len(part) == 0
        before = [(buffer, buffer.clone()) for buffer in own_buffers(self._model)] if silent else []
        set_counted(self._model, not silent)
        waiting = nullcontext() if last or self._forward is self._model else self._forward.no_sync()  # pyright: ignore[reportCallIssue]
        with waiting:
            with (
                rows_of_batch(rows.new_zeros(2) if silent else rows, self._batch_size, counted=not silent),
                torch.autocast(self._place.device.type, dtype=self._dtype, enabled=self._dtype is not None),
            ):
                losses = self._forward(_silence(part) if silent else part)
            # What was dropped of a batch weighs nothing; what is left weighs no more for it.
            weight = len(part) * self._place.world_size / self._batch_size
            if weight != 1:
                losses = {name: loss * weight for name, loss in losses.items()}
            update.backward(losses["total"])
        for buffer, value in before:  # silence leaves no trace in running statistics
            buffer.copy_(value)
        return {name: loss.detach() for name, loss in losses.items()}


def _silence(batch: MixtureBatch) -> MixtureBatch:
    """Two silent mixtures of the form that an empty batch has."""
    rows = {
        name: value.new_zeros((2, *value.shape[1:]))
        for name in ("sources", "gains", "class_ids", "present", "labels", "pictures")
        if (value := getattr(batch, name)) is not None
    }
    num_sources = batch.sources.shape[1]
    classes = torch.arange(num_sources, device=batch.class_ids.device).expand(2, num_sources)
    if "labels" in rows:
        rows["labels"].diagonal(dim1=1, dim2=2).fill_(True)  # source n is of class n
    return replace(batch, mixture_ids=("", ""), **{**rows, "class_ids": classes, "present": ~rows["present"]})


def begun(batches: Iterator[MixtureBatch]) -> Iterator[MixtureBatch]:
    """The batches, of which the first is made from now on, whenever it is asked for."""
    thread = ThreadPoolExecutor(max_workers=1)
    first = thread.submit(next, batches)
    thread.shutdown(wait=False)

    def rest() -> Iterator[MixtureBatch]:
        yield first.result()
        yield from batches

    return rest()


def on_device(batches: Iterator[MixtureBatch], device: torch.device) -> Iterator[MixtureBatch]:
    """The batches on a device. To a GPU each is copied while the one before is computed with."""
    if device.type != "cuda":
        for batch in batches:
            yield batch.to(device)
        return
    copying = torch.cuda.Stream(device)

    ahead: _Copied | None = None
    for batch in batches:
        waiting, ahead = ahead, _Copied(batch.pin(), device, copying)
        if waiting is not None:
            yield waiting.arrived()
    if ahead is not None:
        yield ahead.arrived()


class _Copied:
    """A batch on its way to a GPU. It holds what is copied from until that is done."""

    def __init__(self, pinned: MixtureBatch, device: torch.device, copying: torch.cuda.Stream) -> None:
        self._pinned = pinned
        self._done = torch.cuda.Event()
        with torch.cuda.stream(copying):
            self._batch = pinned.to(device)
            self._done.record()

    def arrived(self) -> MixtureBatch:
        """The batch, for what is computed from now on."""
        computing = torch.cuda.current_stream()
        computing.wait_event(self._done)
        self._batch.used_by(computing)
        return self._batch


def autocast_dtype(precision: str, device: torch.device) -> torch.dtype | None:
    """The type that matrix products run in, or None for float32."""
    if precision in ("bfloat16", "float16"):
        return getattr(torch, precision)
    if precision == "auto" and device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.bfloat16
    return None


@dataclass(frozen=True)
class FirstBatches:
    """The first batches of a source, over and over: what a model that works learns by heart."""

    source: BatchSource
    number: int

    @property
    def batches_per_epoch(self) -> int:
        return self.source.batches_per_epoch

    def batches(self, epoch: int, first: int, rank: int, world_size: int) -> Iterator[MixtureBatch]:
        few = list(itertools.islice(self.source.batches(0, 0, rank, world_size), self.number))
        for batch in range(first, self.batches_per_epoch):
            yield few[batch % len(few)]

    def state(self, step: int) -> dict[str, Any]:
        return {**self.source.state(step), "overfit_batches": self.number}
