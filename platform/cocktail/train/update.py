"""One update of the weights: optimizers, gradients that are scaled, measured and clipped, and the guard.

On a GPU nothing in a step waits for the device: the guard reads what a step was like two steps later, and until then
the update is withheld by the device itself.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from cocktail.config.model import ParameterGroup, all_parameters
from cocktail.config.training import OptimizerName, Training
from cocktail.train.worker import Worker
from cocktail.types import UsageError

STEPS_LATER = 2
"""Steps that the guard stays behind a GPU; so far may the host run ahead of it, too."""


class NonFiniteLossError(RuntimeError):
    """A loss or gradient that is no number. Raised before the update, so the last checkpoint is sound."""


def make_optimizers(
    model: nn.Module, groups: Sequence[ParameterGroup], settings: Training, fused: bool = False
) -> list[torch.optim.Optimizer]:
    """The optimizers that settings and groups of a model's parameters name, each over its groups.

    Raises ValueError if a parameter that learns is in no group, or one is in several.
    """
    _require_each_once(model, groups)
    by_optimizer: dict[OptimizerName, list[dict[str, Any]]] = {}
    for group in groups:
        options = {
            "params": group.parameters,
            "lr": settings.learning_rate * group.rate_factor,
            "rate_factor": group.rate_factor,
            "weight_decay": settings.weight_decay if group.weight_decay is None else group.weight_decay,
        }
        by_optimizer.setdefault(group.optimizer or settings.optimizer, []).append(options)
    # Not False, which would also turn off what torch chooses by itself.
    chosen = True if fused else None
    return [_optimizer(name, options, settings, chosen) for name, options in by_optimizer.items()]


def _optimizer(
    name: OptimizerName, options: list[dict[str, Any]], settings: Training, fused: bool | None
) -> torch.optim.Optimizer:
    if name == "sgd":
        optimizer = torch.optim.SGD(options, momentum=settings.momentum, fused=fused)
        if settings.momentum:
            _start_momentum(optimizer)
        return optimizer
    return {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[name](options, fused=fused)


def _start_momentum(optimizer: torch.optim.SGD) -> None:
    """Let momentum start as zeros, which gives the first update that it is without any.

    Torch makes it in the first step, of memory as it is, and a fused step that an overflow withholds leaves it so. What
    Adam and AdamW average starts as zeros by itself.
    """
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)


def _require_shapes(optimizer: torch.optim.Optimizer) -> None:
    """Torch takes averages of any shape, and fails in the next step."""
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if isinstance(value, Tensor) and value.dim() > 0 and value.shape != parameter.shape:
                raise ValueError(f"{name} has the shape {list(value.shape)}, its weights {list(parameter.shape)}")


def _require_each_once(model: nn.Module, groups: Sequence[ParameterGroup]) -> None:
    times = Counter(id(parameter) for group in groups for parameter in group.parameters)
    wrong = [
        f"{name} is in {times[id(parameter)]}"
        for name, parameter in model.named_parameters()
        if times[id(parameter)] > 1 or (parameter.requires_grad and not times[id(parameter)])
    ]
    if wrong:
        raise ValueError(f"parameter_groups has to put each parameter into one group: {', '.join(wrong)}")


@dataclass(frozen=True)
class _Seen:
    """Losses of a step, and whether they were numbers: on the device until `copied`."""

    step: int
    losses: dict[str, Tensor]
    mixture_ids: tuple[str, ...]
    finite: Tensor
    copied: torch.cuda.Event | None

    def is_finite(self) -> bool:
        if self.copied is not None:
            self.copied.synchronize()
        return bool(self.finite.item())


class Update:
    """Takes the gradients of a step into the weights, unless they or the loss are no numbers."""

    def __init__(
        self,
        model: nn.Module,
        settings: Training,
        worker: Worker,
        *,
        groups: Sequence[ParameterGroup] | None = None,
        steps_later: int | None = None,
    ) -> None:
        """`groups` are the model's parameters; None is all in one. `steps_later` is how far the guard stays behind;
        None is STEPS_LATER on a GPU and 0 elsewhere.

        Raises UsageError for float16 with several optimizers, ValueError for groups that are none of the model's.
        """
        cuda = worker.device.type == "cuda"
        self._steps_later = (STEPS_LATER if cuda else 0) if steps_later is None else steps_later
        # Only fused optimizers can be told by the device itself to leave an update out.
        self._fused = self._steps_later > 0
        groups = all_parameters(model) if groups is None else groups
        self.optimizers = make_optimizers(model, groups, settings, self._fused)
        if settings.precision == "float16" and len(self.optimizers) > 1:
            raise UsageError(
                "training.precision float16 leaves updates out where gradients overflow, for each optimizer by itself; "
                "this model has several: choose bfloat16 or float32"
            )
        # float16 has so small a range that gradients are scaled into it; a scale that proves too large is lowered, and
        # that one update is left out. Below 1 it would shrink them, until it were zero and ruined the weights.
        self.scaler = torch.amp.GradScaler(worker.device.type, enabled=settings.precision == "float16")  # pyright: ignore[reportPrivateImportUsage]
        self._parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self._worker = worker
        self._clip = settings.clip_gradient_norm
        self._failed = torch.zeros((), device=worker.device)
        self._pending: deque[_Seen] = deque()

    def set_learning_rate(self, rate: float) -> None:
        """Set the training's learning rate, of which each group takes its share."""
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate * group["rate_factor"]

    def backward(self, loss: Tensor) -> None:
        """Add to the gradients."""
        self.scaler.scale(loss).backward()

    def apply(self, step: int, losses: dict[str, Tensor], mixture_ids: tuple[str, ...]) -> Tensor:
        """Update the weights by the gradients, and forget these. Returns their norm, before any clipping.

        `losses` and `mixture_ids` are this worker's of the step, counted from 1. Raises NonFiniteLossError, on all
        workers alike, for this step or for one up to STEPS_LATER before, whose update was left out.
        """
        for optimizer in self.optimizers:
            self.scaler.unscale_(optimizer)
        gradients = [parameter.grad for parameter in self._parameters if parameter.grad is not None]
        norm = nn.utils.get_total_norm(gradients)
        if self._clip is not None:
            nn.utils.clip_grads_with_norm_(self._parameters, self._clip, norm)
        self._look_at(step, losses, mixture_ids, norm)
        self.require_finite(allowed_pending=self._steps_later)
        for optimizer in self.optimizers:
            if not self.scaler.is_enabled() and self._fused:
                optimizer.found_inf = self._failed  # pyright: ignore[reportAttributeAccessIssue]
            self.scaler.step(optimizer)
        self.scaler.update()
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        return norm

    def _look_at(self, step: int, losses: dict[str, Tensor], mixture_ids: tuple[str, ...], norm: Tensor) -> None:
        sound = norm.isfinite()
        if self.scaler.is_enabled():
            # What overflows while losses are scaled up is mended by a lower scale; what does below it is no overflow.
            sound = sound | (self.scaler.scale(torch.ones_like(norm)) >= 1)
        finite = losses["total"].detach().isfinite() & sound
        if self._worker.world_size > 1:  # the norm is all workers', the loss is this one's
            everywhere = finite.float()
            dist.all_reduce(everywhere, dist.ReduceOp.MIN)
            finite = everywhere > 0
        self._failed = torch.maximum(self._failed, 1 - finite.float())
        copied = None
        kept = {name: loss.detach() for name, loss in losses.items()}
        if finite.device.type == "cuda":
            finite = finite.to("cpu", non_blocking=True)
            copied = torch.cuda.Event()
            copied.record()
        self._pending.append(_Seen(step, kept, mixture_ids, finite, copied))

    def require_finite(self, allowed_pending: int = 0) -> None:
        """Raise NonFiniteLossError, with its mixtures, for the first of the steps so far that was no number.

        The last `allowed_pending` steps are not yet looked at, so that nobody waits for the device.
        """
        while len(self._pending) > allowed_pending:
            seen = self._pending.popleft()
            if not seen.is_finite():
                mine = {name: loss.item() for name, loss in seen.losses.items()}, seen.mixture_ids
                everyones: list[Any] = [mine]
                if self._worker.world_size > 1:
                    everyones = [None] * self._worker.world_size
                    dist.all_gather_object(everyones, mine)
                raise NonFiniteLossError(_describe(seen.step, everyones))

    def state(self) -> dict[str, Any]:
        """State of optimizers and scale, as a checkpoint holds it."""
        return {
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "scaler": self.scaler.state_dict(),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave, on whichever device that was. Raises ValueError for what is not of these
        parameters, and what torch raises for what is no such state."""
        for optimizer, was in zip(self.optimizers, state["optimizers"], strict=True):
            fused = optimizer.param_groups[0]["fused"]
            groups = [{**group, "fused": fused} for group in was["param_groups"]]
            optimizer.load_state_dict({**was, "param_groups": groups})
            _require_shapes(optimizer)
        if state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])


def _describe(step: int, everyones: Iterable[tuple[dict[str, float], tuple[str, ...]]]) -> str:
    """The workers whose losses are no numbers; all, if it is a gradient."""
    guilty = [(losses, ids) for losses, ids in everyones if not abs(losses["total"]) < float("inf")]
    what = "loss" if guilty else "gradient"
    workers = [f"{losses}; mixtures {', '.join(ids)}" for losses, ids in guilty or everyones]
    return f"the {what} is not finite at step {step}: {' | '.join(workers)}"
