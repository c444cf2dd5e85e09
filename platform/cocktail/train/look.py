"""Looks at a model on the way: how well it recognises the classes in held-out mixtures (SGN Fig. 4)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.distributed as dist
from torch import Tensor, nn

from cocktail.metrics.classification import precision_recall_f1
from cocktail.train.worker import Worker, share_buffers
from cocktail.types import Classifier, MixtureBatch

FIRST_LOOKS = 256
"""Step up to which there is a look after each power of two: recognition is learned early."""
FIRST_STEPS = 200
"""Step up to which each is followed by a look at what can be seen without a mixture."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """A look, now and then, at how well a `Classifier` recognises what is in held-out mixtures. It decides nothing."""

    batches: tuple[MixtureBatch, ...]
    """Held-out mixtures, the same every time and on every worker; each worker looks at its share."""
    on_look: Callable[[int, dict[str, float]], None]
    """`on_look(step, scores)`, called on every rank by `report`."""
    _pending: list[tuple[int, dict[str, Tensor]]] = field(default_factory=list, init=False, repr=False)
    """Steps and counts of this worker that nobody has been told of; they stay on the device until then."""

    def is_due(self, step: int, num_steps: int, batches_per_epoch: int) -> bool:
        """Whether to look after a step: each power of two up to FIRST_LOOKS, each epoch's last, the last of all."""
        early = step <= FIRST_LOOKS and step & (step - 1) == 0
        return early or step == num_steps or step % batches_per_epoch == 0

    def after(self, step: int, num_steps: int, batches_per_epoch: int, model: nn.Module, worker: Worker) -> None:
        """Look, if it is time to; in the first steps at least at what can be seen without a mixture."""
        if self.is_due(step, num_steps, batches_per_epoch):
            self.take(step, model, worker)
        elif step <= FIRST_STEPS:
            self.take(step, model, worker, with_mixtures=False)

    def take(self, step: int, model: nn.Module, worker: Worker, with_mixtures: bool = True) -> None:
        """Count by what is classified, in this worker's share; on a GPU nothing here waits for it."""
        if not isinstance(model, Classifier) or not self.batches:
            return
        counts: dict[str, Tensor] = {}
        model.eval()
        if with_mixtures:
            share_buffers(model, worker)
        # Without a batch of its own a worker still adds to the sum, which must have one form on all.
        shown = self.batches[worker.rank :: worker.world_size] or self.batches[:1]
        for number, batch in enumerate(shown if with_mixtures else [None]):
            for name, counted in model.confusion(None if batch is None else batch.to(worker.device)).items():
                mine = counted if worker.rank < len(self.batches) else torch.zeros_like(counted)
                counts[name] = counts[name] + mine if number else mine
        model.train()
        if counts:
            self._pending.append((step, counts))

    def report(self, worker: Worker) -> None:
        """Tell of the looks since the last report, in one transfer from the device: micro and macro precision, recall
        and F1 by what is classified, over all workers' shares."""
        if not self._pending:
            return
        looks = [(step, name, counts[name]) for step, counts in self._pending for name in sorted(counts)]
        self._pending.clear()
        together = torch.cat([counts.flatten() for _, _, counts in looks])
        if worker.world_size > 1:
            dist.all_reduce(together)
        scores: dict[int, dict[str, float]] = {}
        parts = together.cpu().split([counts.numel() for _, _, counts in looks])
        for (step, name, counts), part in zip(looks, parts, strict=True):
            of_step = scores.setdefault(step, {})
            for average in ("micro", "macro"):
                values = precision_recall_f1(part.view_as(counts), average)
                for score, value in zip(("precision", "recall", "f1"), values, strict=True):
                    of_step[f"look/{name}_{average}_{score}"] = value
        for step, of_step in scores.items():
            self.on_look(step, of_step)
