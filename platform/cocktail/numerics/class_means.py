"""Means of vectors by class, gathered while training goes on.

Shape letters: B batch, N sources, C classes, D width; R rows of all workers.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cocktail.numerics.gathering import gather_rows
from cocktail.numerics.precision import at_least_float32
from cocktail.numerics.randomness import rows_are_counted


class ClassMeans(nn.Module):
    """The mean vector of each class, over about its last 1 / (1 - memory) vectors: those of a step count alike, and of
    what was there before a step a vector of the class leaves the share `memory`.

    Sums and weights are buffers, the same on all workers, and in checkpoints: means are those of one worker, wherever
    training was stopped and however many workers there are.
    """

    def __init__(self, num_classes: int, width: int, memory: float) -> None:
        super().__init__()
        self.memory = memory
        self.register_buffer("sums", torch.zeros(num_classes, width))
        self.register_buffer("weights", torch.zeros(num_classes))

    @torch.no_grad()
    def add(self, vectors: Tensor, class_ids: Tensor, present: Tensor) -> None:
        """Take in vectors [B, N, D] of sources [B, N], of all workers, that are present and have a class."""
        sums, weights = self.get_buffer("sums"), self.get_buffer("weights")
        counted = present & (class_ids >= 0) if rows_are_counted() else torch.zeros_like(present)
        with torch.autocast(vectors.device.type, enabled=False):
            is_of = F.one_hot(class_ids.clamp(min=0), len(weights)).to(sums.dtype) * counted[..., None]
            is_of = gather_rows(is_of).flatten(0, 1)  # [R, C]
            rows = gather_rows(at_least_float32(vectors)).flatten(0, 1).to(sums.dtype)
            number = is_of.sum(dim=0)
            left = self.memory**number
            sums.mul_(left[:, None]).add_(is_of.T @ rows)
            weights.mul_(left).add_(number)

    def replace(self, sums: Tensor, weights: Tensor) -> None:
        """Take sums [C, D] of so many vectors [C] in place of what is there, of classes that have any."""
        own_sums, own_weights = self.get_buffer("sums"), self.get_buffer("weights")
        has_any = weights > 0
        own_sums.copy_(torch.where(has_any[:, None], sums, own_sums))
        own_weights.copy_(torch.where(has_any, weights, own_weights))

    def means(self) -> Tensor:
        """The means [C, D]; zeros of a class that there was nothing of."""
        weights = self.get_buffer("weights")
        return self.get_buffer("sums") / weights.clamp(min=torch.finfo(weights.dtype).tiny)[:, None]
