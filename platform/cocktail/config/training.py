"""The recipe of the optimisation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from cocktail.config.splits import Split
from cocktail.types import require


@dataclass(frozen=True, kw_only=True)
class Training:
    """The recipe of the optimisation."""

    split: str = "train"
    """Split of the data set to train on, or a part of its recordings, as in 'train[5%:]'."""
    epochs: int = 100
    """Passes over the plan of mixtures."""
    max_steps: int | None = None
    """Stop after this many steps, even within an epoch; None trains all epochs."""
    batch_size: int = 80
    """Mixtures in a step, over all workers together."""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    """Optimizer of all parameters; AdamW without weight decay is Adam."""
    learning_rate: float = 1e-3
    """Learning rate at the start."""
    momentum: float = 0.9
    """Momentum of SGD; AdamW does not read it."""
    weight_decay: float = 1e-4
    """Weight decay of all parameters."""
    lr_drop_epochs: tuple[int, ...] = (40, 80)
    """Epochs at whose start the learning rate is multiplied by lr_drop_factor."""
    lr_drop_factor: float = 0.1
    """Factor of the learning rate at each drop."""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Precision of the network's matrix products; auto is bfloat16 on a GPU that has it and float32 elsewhere. With
    float16 the loss is scaled, and updates whose gradients overflow are left out."""
    accumulate: int = 1
    """Parts that each worker's share of a batch is computed in, one after the other, for less memory."""
    clip_gradient_norm: float | None = None
    """Norm, over all parameters, that larger gradients are scaled down to; None leaves them as they are."""
    sync_batch_norm: bool = False
    """BatchNorm over the mixtures of all workers, so that what is learned does not depend on their number."""
    checkpoint_every: int = 500
    """Steps between checkpoints; the last step always writes one."""
    keep_checkpoints: int = 2
    """Checkpoints that are kept, the newest; older ones are deleted."""
    log_every: int = 20
    """Steps between lines in the log and points in MLflow; each checkpoint and validation is another."""
    validation_split: str | None = None
    """Split of the data set whose loss is computed now and then (MUSIC: val; FUSS: validation), or what training leaves
    out, as in 'train[:5%]'. Not the test split."""
    validation_mixtures: int = 64
    """Mixtures that the validation loss is computed on, always the same."""
    validate_every: int | None = None
    """Steps between validations; None validates after each epoch."""
    patience: int | None = None
    """Stop when the validation loss has not fallen for so many validations in a row; None trains all epochs."""
    select: Literal["last", "best"] = "last"
    """The checkpoint that is tested and kept as the model: the last, or that of the lowest validation loss."""
    overfit_batches: Annotated[int | None, tyro.conf.arg(aliases=["--overfit-batches"])] = None
    """Train on the first so many batches only, over and over: a model that works learns them by heart."""
    max_dropped_share: float = 0.001
    """Share of the mixtures of the epochs begun that may be dropped because a clip in the shards is damaged. Over it,
    the run fails."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "checkpoint_every", "keep_checkpoints", "log_every", "accumulate"):
            require(getattr(self, name) >= 1, f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("max_steps", "validation_mixtures", "validate_every", "patience", "overfit_batches"):
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
        require(self.learning_rate > 0, f"learning_rate must be positive, not {self.learning_rate}")

    def num_steps(self, batches_per_epoch: int) -> int:
        """Steps of the whole training."""
        planned = self.epochs * batches_per_epoch
        return planned if self.max_steps is None else min(planned, self.max_steps)

    def learning_rate_at(self, epoch: int) -> float:
        """The learning rate of an epoch, counted from 0."""
        drops = sum(epoch >= drop for drop in self.lr_drop_epochs)
        return self.learning_rate * self.lr_drop_factor**drops
