"""The recipe of the optimisation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from cocktail.config.splits import Split
from cocktail.types import require

OptimizerName = Literal["sgd", "adam", "adamw"]


@dataclass(frozen=True, kw_only=True)
class Training:
    """The recipe of the optimisation."""

    split: str = "train"
    """Split of the data set to train on, or a part of its recordings, as in 'train[5%:]'."""
    epochs: int = 100
    """Passes over the plan of mixtures."""
    max_steps: int | None = None
    """Steps after which training stops, even within an epoch; None trains all epochs."""
    batch_size: int = 80
    """Mixtures in a step, over all workers together."""
    optimizer: OptimizerName = "sgd"
    """Optimizer of all parameters but those for which the model names another. Adam adds the weight decay to the
    gradient, AdamW applies it apart from the gradient."""
    learning_rate: float = 1e-3
    """Learning rate before any drop, and after any warm-up. A model may take a share of it for some of its
    parameters."""
    momentum: float = 0.9
    """Momentum of SGD; Adam and AdamW do not read it."""
    weight_decay: float = 1e-4
    """Weight decay of all parameters but those for which the model names another."""
    lr_warm_up_steps: int = 0
    """Steps in which the learning rate rises evenly, and in the last of which it is whole."""
    lr_drop_epochs: tuple[int, ...] = (40, 80)
    """Epochs at whose start the learning rate is multiplied by lr_drop_factor."""
    lr_drop_steps: tuple[int, ...] = ()
    """Steps after which the learning rate is multiplied by lr_drop_factor."""
    lr_drop_factor: float = 0.1
    """Factor of the learning rate at each drop."""
    lr_decay_every: int | None = None
    """Steps after each of which the learning rate is multiplied by lr_decay_factor, to the end of training; 1 is an
    exponential decay. None leaves this out."""
    lr_decay_factor: float = 0.9
    """Factor that the learning rate is multiplied by at each decay."""
    lr_cosine: bool = False
    """Lower the learning rate along half a cosine, from all of it after the warm-up to 0 after the last step."""
    precision: Literal["auto", "float32", "tf32", "bfloat16", "float16"] = "auto"
    """Precision of the network's matrix products and convolutions; auto is bfloat16 on a GPU that has it and float32
    elsewhere. float32 is all of it, also in convolutions, of which torch by itself leaves out 13 of 23 bits on GPUs;
    tf32 leaves them out in products, too, for speed. With float16 the loss is scaled, and updates whose gradients
    overflow are left out. Scores are computed in float32."""
    accumulate: int = 1
    """Parts that each worker's share of a batch is computed in, one after the other, for less memory."""
    clip_gradient_norm: float | None = None
    """Norm, over all parameters, that larger gradients are scaled down to; None leaves them as they are."""
    sync_batch_norm: bool = False
    """Take BatchNorm's statistics over the mixtures of all workers, so that what is learned does not depend on their
    number."""
    checkpoint_every: int = 500
    """Steps between checkpoints; the last step always writes one."""
    keep_checkpoints: int = 2
    """Checkpoints that are kept, the newest; older ones are deleted."""
    log_every: int = 20
    """Steps between lines in the log and points in MLflow; each checkpoint and validation is another."""
    validation_split: str | None = None
    """Split of the data set on which the loss is computed now and then (MUSIC: val; FUSS: validation), or the part that
    training leaves out, as in 'train[:5%]'. Not the test split. None leaves validation out."""
    validation_mixtures: int = 64
    """Mixtures that the validation loss is computed on, always the same."""
    validate_every: int | None = None
    """Steps between validations; None validates after each epoch."""
    patience: int | None = None
    """Validations in a row without a lower loss after which training stops; None trains all epochs."""
    select: Literal["last", "best"] = "last"
    """Checkpoint that is tested and kept as the model: the last, or that of the lowest validation loss."""
    overfit_batches: Annotated[int | None, tyro.conf.arg(aliases=["--overfit-batches"])] = None
    """Batches, the first ones, to train on over and over: a model that works learns them by heart. None trains on all
    that there are."""
    max_dropped_share: float = 0.001
    """Share of the mixtures of the epochs begun that may be dropped because a clip in the shards is damaged. Over it,
    the run fails."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "checkpoint_every", "keep_checkpoints", "log_every", "accumulate"):
            require(getattr(self, name) >= 1, f"{name} must be at least 1, not {getattr(self, name)}")
        positive = ("max_steps", "validation_mixtures", "validate_every", "patience", "overfit_batches")
        for name in (*positive, "lr_decay_every"):
            value = getattr(self, name)
            require(value is None or value >= 1, f"{name} must be positive, not {value}")
        require(
            self.clip_gradient_norm is None or self.clip_gradient_norm > 0,
            f"clip_gradient_norm must be positive, not {self.clip_gradient_norm}",
        )
        chooses = self.patience is not None or self.select == "best"
        require(
            not chooses or self.validation_split is not None,
            "patience and select best need validation_split: what they go by is the validation loss",
        )
        trained_on = Split.of(self.split)
        require(
            self.validation_split is None or not Split.of(self.validation_split).overlaps(trained_on),
            f"training.validation_split {self.validation_split} is what the model is trained on: hold a part of it "
            f"out, as with --training.split '{trained_on.name}[5%:]' --training.validation-split "
            f"'{trained_on.name}[:5%]'",
        )
        require(
            0 <= self.max_dropped_share <= 1, f"max_dropped_share must be from 0 to 1, not {self.max_dropped_share}"
        )
        self._require_schedule()

    def _require_schedule(self) -> None:
        """Refuse learning rates that are none, and settings of the schedule that would do nothing."""
        for name in ("learning_rate", "lr_drop_factor", "lr_decay_factor"):
            require(getattr(self, name) > 0, f"{name} must be positive, not {getattr(self, name)}")
        for name in ("lr_drop_epochs", "lr_drop_steps"):
            require(min(getattr(self, name), default=1) >= 1, f"{name} must be from 1 on, not {getattr(self, name)}")
        require(self.lr_warm_up_steps >= 0, f"lr_warm_up_steps must not be negative, not {self.lr_warm_up_steps}")
        drops = bool(self.lr_drop_epochs or self.lr_drop_steps)
        require(
            drops or self.lr_drop_factor == Training.lr_drop_factor,
            "lr_drop_factor does nothing without lr_drop_epochs or lr_drop_steps: name some, or leave it out",
        )
        require(
            self.lr_decay_every is not None or self.lr_decay_factor == Training.lr_decay_factor,
            "lr_decay_factor does nothing without lr_decay_every: set it, or leave lr_decay_factor out",
        )
        require(
            not self.lr_cosine or (not drops and self.lr_decay_every is None),
            "lr_cosine is a schedule of its own: leave out lr_decay_every and lr_drop_steps, and empty lr_drop_epochs "
            "(--training.lr-drop-epochs, with nothing behind it)",
        )

    def num_steps(self, batches_per_epoch: int) -> int:
        """Steps of the whole training."""
        planned = self.epochs * batches_per_epoch
        return planned if self.max_steps is None else min(planned, self.max_steps)

    def learning_rate_at(self, step: int, batches_per_epoch: int) -> float:
        """The learning rate of the step that `step` others have gone before."""
        epoch = step // batches_per_epoch
        drops = sum(epoch >= drop for drop in self.lr_drop_epochs) + sum(step >= drop for drop in self.lr_drop_steps)
        rate = self.learning_rate * self.lr_drop_factor**drops
        if self.lr_decay_every is not None:
            rate *= self.lr_decay_factor ** (step // self.lr_decay_every)
        if step < self.lr_warm_up_steps:
            return rate * (step + 1) / self.lr_warm_up_steps
        if self.lr_cosine:
            last = self.num_steps(batches_per_epoch)
            done = (step - self.lr_warm_up_steps) / max(last - self.lr_warm_up_steps, 1)
            rate *= (1 + math.cos(math.pi * done)) / 2
        return rate
