"""The training loop: the only one, for every model, with or without Ray.

A run's state is its step, the model, its optimizers with their scale, and what early stopping has seen. Everything else
is a function of the step: the epoch and batch (so the mixtures), the learning rate, and the random numbers, which are
seeded anew each step. So training that is stopped anywhere and started from a checkpoint continues exactly.

A mixture with a damaged clip is dropped, and nothing takes its worker: each mixture of a step weighs 1 / B, B the
size of the global batch, whatever else is there. So what is learned does not depend on which worker met it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from cocktail.checkpoints.contents import require_weights, telling_of_state, value_of
from cocktail.checkpoints.store import CheckpointStore, CheckpointWriter, load_checkpoint, require_identity
from cocktail.config.model import ParameterGroup, all_parameters
from cocktail.config.training import Training
from cocktail.numerics.batch_norm import own_buffers, set_counted, synchronize_batch_norm
from cocktail.numerics.compiling import compile_network
from cocktail.numerics.precision import autocast_dtype
from cocktail.numerics.randomness import rows_of_batch
from cocktail.train.batches import begun, on_device
from cocktail.train.look import Look
from cocktail.train.meter import Meter
from cocktail.train.update import Update
from cocktail.train.validation import BestValidation, Validation
from cocktail.train.worker import Worker
from cocktail.types import BatchSource, Following, MixtureBatch, UsageError, share_of


def train(
    model: nn.Module,
    source: BatchSource,
    settings: Training,
    *,
    seed: int,
    worker: Worker,
    checkpoints: CheckpointStore,
    identity: dict[str, Any],
    on_log: Callable[[int, int, dict[str, float]], None],
    parameter_groups: Callable[[nn.Module], Sequence[ParameterGroup]] = all_parameters,
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
    model.to(worker.device).train()
    if settings.sync_batch_norm:
        synchronize_batch_norm(model)  # makes some parameters anew: what is grouped are those that are trained
    loop = _Loop(
        model=model,
        source=source,
        settings=settings,
        worker=worker,
        update=Update(model, settings, worker, groups=parameter_groups(model)),
        best=BestValidation(settings.patience),
        on_log=on_log,
        look=look,
        validation=validation,
        on_save=on_save,
    )
    loop.restore(checkpoints, identity)
    if compiled:
        compile_network(model)
    steps = Steps(model, settings, worker, loop.dtype, seed)
    with CheckpointWriter(checkpoints, identity, settings.keep_checkpoints) as writer:
        loop.run(steps, writer)


@dataclass(kw_only=True)
class _Loop:
    """A training on its way: what it trains, whom it tells, and how far it is."""

    model: nn.Module
    source: BatchSource
    settings: Training
    worker: Worker
    update: Update
    best: BestValidation
    on_log: Callable[[int, int, dict[str, float]], None]
    look: Look | None
    validation: Validation | None
    on_save: Callable[[int], None] | None
    step: int = 0
    """Steps done."""
    dropped_before: int = 0
    """Mixtures that all workers had dropped when they went on from a checkpoint."""
    dropped: list[str] = field(default_factory=list)
    """Why this worker has dropped mixtures since then, a line each."""
    num_dropped: int = 0
    """Mixtures that all workers have dropped, at the last log line."""
    meter: Meter = field(default_factory=Meter)

    def __post_init__(self) -> None:
        self.batches_per_epoch = self.source.batches_per_epoch
        self.num_steps = self.settings.num_steps(self.batches_per_epoch)
        self.dtype = autocast_dtype(self.settings.precision, self.worker.device)

    @property
    def is_over(self) -> bool:
        return self.step >= self.num_steps or self.best.stops

    @property
    def epoch(self) -> int:
        return self.step // self.batches_per_epoch

    def restore(self, checkpoints: CheckpointStore, identity: dict[str, Any]) -> None:
        """Go on from the newest checkpoint that the first worker sees, if it sees one: others may see another."""
        chosen = [checkpoints.newest() if self.worker.rank == 0 else None]
        if self.worker.world_size > 1:
            dist.broadcast_object_list(chosen, src=0, device=self.worker.device)
        (location,) = chosen
        if location is None:
            return
        require_identity(location, identity)
        checkpoint = load_checkpoint(location)
        was = dict(value_of(location, checkpoint.state, "data", dict))
        self.dropped_before = value_of(location, was, "dropped", int)
        del was["dropped"]
        now = self.source.state(checkpoint.step)
        differing = [f"{name} (was {was.get(name)}, is {now.get(name)})" for name in now if was.get(name) != now[name]]
        if differing:
            raise UsageError(
                f"{location} cannot go on with this data: {', '.join(differing)}. Set it back, or choose another "
                "--run-name"
            )
        require_weights(location, checkpoint.state["model"], self.model.state_dict())
        self.model.load_state_dict(checkpoint.state["model"])
        with telling_of_state(location, "optimizer"):
            self.update.load(checkpoint.state)
        with telling_of_state(location, "early stopping"):
            self.best.load(checkpoint.state["stopping"])
        self.step = checkpoint.step

    def run(self, steps: Steps, writer: CheckpointWriter) -> None:
        """Train, epoch after epoch, until it is over."""
        # Before the first look: a pipeline takes seconds to start.
        batches = iter(()) if self.is_over else self._batches(self.step)
        if self.step == 0 and self.look is not None:
            self.look.take(0, self.model, self.worker)
        self.meter = Meter()
        while not self.is_over:
            batches = self._train_epoch(on_device(batches, self.worker.device), steps, writer)
        if self.best.stops and self.worker.rank == 0:
            text = f"stopped at step {self.step}: the validation loss has not fallen for {self.best.since} validations"
            print(text, flush=True)

    def _batches(self, step: int) -> Iterator[MixtureBatch]:
        """This worker's shares of the batches from a step to its epoch's end."""
        epoch, first = divmod(step, self.batches_per_epoch)
        return begun(self.source.batches(epoch, first, self.worker.rank, self.worker.world_size))

    def _train_epoch(
        self, batches: Iterator[MixtureBatch], steps: Steps, writer: CheckpointWriter
    ) -> Iterator[MixtureBatch]:
        """Train to the epoch's end. Returns the next epoch's batches, begun before this one's last step."""
        settings, first, end = self.settings, self.step, (self.epoch + 1) * self.batches_per_epoch
        following: Iterator[MixtureBatch] = iter(())
        while self.step < end and not self.is_over:
            with self.meter.timing("data"):
                batch = next(batches)
            if self.step == first and end < self.num_steps:
                self.source.plan_ahead(self.epoch + 1)
            if self.step + 1 == end < self.num_steps:
                following = self._batches(end)
            self._take_step(batch, steps)
            validated = self._validate()
            best_step = self.best.step if settings.select == "best" else None
            saving = self.step % settings.checkpoint_every == 0 or self.is_over or self.step == best_step
            if self.look is not None:
                with self.meter.timing("look"):
                    self.look.after(self.step, self.num_steps, self.batches_per_epoch, self.model, self.worker)
            # With each checkpoint, too: means over steps before it are not there to go on from.
            if self.step % settings.log_every == 0 or saving or validated:
                self._log(validated)
            if saving and self.worker.rank == 0:
                with self.meter.timing("checkpoint"):
                    self._save(writer, best_step)
        return following

    def _take_step(self, batch: MixtureBatch, steps: Steps) -> None:
        for line in batch.dropped:
            print(f"dropped at step {self.step + 1}: {line}", flush=True)
        self.dropped += batch.dropped
        self.update.set_learning_rate(self.settings.learning_rate_at(self.step, self.batches_per_epoch))
        losses, norm = steps.take(self.step, batch, self.update)
        if isinstance(self.model, Following):
            self.model.follow()
        self.step += 1
        self.meter.add(losses, norm, batch.read_statistics)

    def _validate(self) -> dict[str, float]:
        """Validation losses by name, if it is time for them."""
        if self.validation is None or not self.validation.is_due(self.step, self.num_steps, self.batches_per_epoch):
            return {}
        with self.meter.timing("validation"):
            validated = self.validation.losses(self.model, self.worker, self.dtype)
        self.best.update(validated["validation/total"], self.step)
        return validated

    def _log(self, validated: dict[str, float]) -> None:
        """Say how the steps since the last log line went. Raises if one was no number, or too much was dropped."""
        self.update.require_finite()
        if self.look is not None:
            with self.meter.timing("look"):
                self.look.report(self.worker)
        self.num_dropped = self.dropped_before + _sum_over_workers(len(self.dropped), self.worker)
        self._require_few_dropped()
        metrics = self.meter.read(self.settings.batch_size, self.worker)
        self.meter = Meter()
        rate = self.settings.learning_rate_at(self.step - 1, self.batches_per_epoch)
        rest = {"learning_rate": rate, "dropped_mixtures": float(self.num_dropped)}
        if self.update.scaler.is_enabled():
            rest["loss_scale"] = self.update.scaler.get_scale()
        with self.meter.timing("log"):
            last = self.step if self.best.stops else self.num_steps
            self.on_log(self.step, last, {**metrics, **validated, **rest})

    def _require_few_dropped(self) -> None:
        """The limit is a share of the mixtures of all epochs that have begun: one damaged clip early on is not many."""
        begun_steps = math.ceil(self.step / self.batches_per_epoch) * self.batches_per_epoch
        counted = self.settings.batch_size * min(begun_steps, self.num_steps)
        if self.num_dropped > self.settings.max_dropped_share * counted:
            last = f" The last here: {self.dropped[-1]}" if self.dropped else ""
            raise UsageError(
                f"{self.num_dropped} of {counted} mixtures were dropped by step {self.step} because clips are damaged, "
                f"more than a share of {self.settings.max_dropped_share:g} (--training.max-dropped-share). "
                f"python jobs/verify.py SHARDS names the damaged clips.{last}"
            )

    def _save(self, writer: CheckpointWriter, best_step: int | None) -> None:
        data = {**self.source.state(self.step), "dropped": self.num_dropped}
        if self.on_save is not None:
            self.on_save(self.step)
        state = {"model": self.model.state_dict(), **self.update.state(), "stopping": self.best.state()}
        writer.save(self.step, {**state, "data": data}, best_step)


def _sum_over_workers(count: int, worker: Worker) -> int:
    total = torch.tensor(count, device=worker.device)
    if worker.world_size > 1:
        dist.all_reduce(total)
    return int(total)


class Steps:
    """Takes a training step on this worker's share of a batch."""

    def __init__(
        self, model: nn.Module, settings: Training, worker: Worker, dtype: torch.dtype | None, seed: int
    ) -> None:
        alone = worker.world_size == 1
        self._model = model
        # Buffers are the first worker's where they are read: before looks and validation, and in checkpoints.
        self._forward = (
            model
            if alone
            else nn.parallel.DistributedDataParallel(model, gradient_as_bucket_view=True, broadcast_buffers=False)
        )
        self._worker = worker
        self._dtype = dtype
        self._seed = seed
        self._batch_size = settings.batch_size
        self._num_parts = settings.accumulate
        self._first, self._share = share_of(settings.batch_size, worker.rank, worker.world_size)

    def take(self, step: int, batch: MixtureBatch, update: Update) -> tuple[dict[str, Tensor], Tensor]:
        """Losses and the gradient's norm of the step after `step`, with its update done.

        Losses are scaled so that their mean over workers is that over the mixtures of the whole batch.
        """
        # Every worker draws the numbers of the whole batch: primes keep (seed, step) apart, whatever their values.
        torch.manual_seed(((self._seed * 1_000_003 + step) * 10_007) % 2**63)
        total: dict[str, Tensor] = {}
        planned = [self._first + row for row in range(self._share) if row not in batch.dropped_rows]
        assert len(planned) == len(batch)
        rows = torch.tensor(planned, dtype=torch.int64).to(self._worker.device, non_blocking=True)
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
                torch.autocast(self._worker.device.type, dtype=self._dtype, enabled=self._dtype is not None),
            ):
                losses = self._forward(_silence(part) if silent else part)
            # What was dropped of a batch weighs nothing; what is left weighs no more for it.
            weight = len(part) * self._worker.world_size / self._batch_size
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
        for name in ("sources", "gains", "class_ids", "present", "labels", "pictures", "seen")
        if (value := getattr(batch, name)) is not None
    }
    num_sources = batch.sources.shape[1]
    classes = torch.arange(num_sources, device=batch.class_ids.device).expand(2, num_sources)
    if "labels" in rows:
        rows["labels"].diagonal(dim1=1, dim2=2).fill_(True)  # source n is of class n
    all_there = {name: ~rows[name] for name in ("present", "seen") if name in rows}
    return replace(batch, mixture_ids=("", ""), **{**rows, "class_ids": classes, **all_there})
