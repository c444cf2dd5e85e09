"""One update of the weights: the optimizer, gradients that are scaled, measured and clipped, and the guard.

On a GPU nothing in a step waits for the device: the guard reads what a step was like two steps later, and until then
the update is withheld by the device itself.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from cocktail.config.training import Training
from cocktail.train.worker import Place

STEPS_LATER = 2
"""How far the guard stays behind a GPU; so far may the host run ahead of it, too."""


class NonFiniteLossError(RuntimeError):
    """A loss or gradient that is no number. Raised before the update, so the last checkpoint is sound."""


def make_optimizer(model: nn.Module, settings: Training, fused: bool = False) -> torch.optim.Optimizer:
    """The optimizer that the settings name, over all of a model's parameters."""
    # Not False, which would also turn off what torch chooses by itself.
    chosen = True if fused else None
    shared: dict[str, Any] = {"lr": settings.learning_rate, "weight_decay": settings.weight_decay, "fused": chosen}
    if settings.optimizer == "sgd":
        return torch.optim.SGD(model.parameters(), momentum=settings.momentum, **shared)
    return torch.optim.AdamW(model.parameters(), **shared)


@dataclass(frozen=True)
class _Seen:
    """What a step was like: on the device until `copied`."""

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

    def __init__(self, model: nn.Module, settings: Training, place: Place, *, steps_later: int | None = None) -> None:
        """`steps_later` is how far the guard stays behind; None is STEPS_LATER on a GPU and 0 elsewhere."""
        cuda = place.device.type == "cuda"
        self._steps_later = (STEPS_LATER if cuda else 0) if steps_later is None else steps_later
        # Only fused optimizers can be told by the device itself to leave an update out.
        self._fused = self._steps_later > 0
        self.optimizer = make_optimizer(model, settings, self._fused)
        # float16 has so small a range that gradients are scaled into it; a scale that proves too large is lowered, and
        # that one update is left out. Below 1 it would shrink them, until it were zero and ruined the weights.
        self.scaler = torch.amp.GradScaler(place.device.type, enabled=settings.precision == "float16")  # pyright: ignore[reportPrivateImportUsage]
        self._parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self._place = place
        self._clip = settings.clip_gradient_norm
        self._failed = torch.zeros((), device=place.device)
        self._pending: deque[_Seen] = deque()

    @property
    def learning_rate(self) -> float:
        return self.optimizer.param_groups[0]["lr"]

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = value

    def backward(self, loss: Tensor) -> None:
        """Add to the gradients."""
        self.scaler.scale(loss).backward()

    def apply(self, step: int, losses: dict[str, Tensor], mixture_ids: tuple[str, ...]) -> Tensor:
        """Update the weights by the gradients, and forget these. Returns their norm, before any clipping.

        `losses` and `mixture_ids` are this worker's of the step, counted from 1. Raises NonFiniteLossError, on all
        workers alike, for this step or for one up to STEPS_LATER before, whose update was left out.
        """
        self.scaler.unscale_(self.optimizer)
        gradients = [parameter.grad for parameter in self._parameters if parameter.grad is not None]
        norm = nn.utils.get_total_norm(gradients)
        if self._clip is not None:
            nn.utils.clip_grads_with_norm_(self._parameters, self._clip, norm)
        self._look_at(step, losses, mixture_ids, norm)
        self.require_finite(allowed_pending=self._steps_later)
        if not self.scaler.is_enabled() and self._fused:
            self.optimizer.found_inf = self._failed  # pyright: ignore[reportAttributeAccessIssue]
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        return norm

    def _look_at(self, step: int, losses: dict[str, Tensor], mixture_ids: tuple[str, ...], norm: Tensor) -> None:
        sound = norm.isfinite()
        if self.scaler.is_enabled():
            # What overflows while losses are scaled up is mended by a lower scale; what does below it is no overflow.
            sound = sound | (self.scaler.scale(torch.ones_like(norm)) >= 1)
        finite = losses["total"].detach().isfinite() & sound
        if self._place.world_size > 1:  # the norm is all workers', the loss is this one's
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
                if self._place.world_size > 1:
                    everyones = [None] * self._place.world_size
                    dist.all_gather_object(everyones, mine)
                raise NonFiniteLossError(_describe(seen.step, everyones))

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return {"optimizer": self.optimizer.state_dict(), "scaler": self.scaler.state_dict()}

    def load(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave, on whichever device that was."""
        optimizer = dict(state["optimizer"])
        fused = self.optimizer.param_groups[0]["fused"]
        optimizer["param_groups"] = [{**group, "fused": fused} for group in optimizer["param_groups"]]
        self.optimizer.load_state_dict(optimizer)
        if state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])


def _describe(step: int, everyones: Iterable[tuple[dict[str, float], tuple[str, ...]]]) -> str:
    """The workers whose losses are no numbers; all, if it is a gradient."""
    guilty = [(losses, ids) for losses, ids in everyones if not abs(losses["total"]) < float("inf")]
    what = "loss" if guilty else "gradient"
    told = [f"{losses}; mixtures {', '.join(ids)}" for losses, ids in guilty or everyones]
    return f"the {what} is not finite at step {step}: {' | '.join(told)}"
