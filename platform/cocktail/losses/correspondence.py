"""Losses of pictures that are each compared with the sounds of a whole batch, their own among them.

Shape letters: B mixtures, S sources of each; M pictures of this worker, R sounds of all workers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from cocktail.numerics.gathering import gather_rows, places_of_own_rows
from cocktail.numerics.precision import at_least_float32
from cocktail.numerics.randomness import rows_are_counted


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Which of the sounds that pictures are compared with are their own, and which are there at all."""

    own: Tensor
    """int64 [M]: the place of a picture's own sound among all."""
    there: Tensor
    """bool [M, R]: what a picture is compared with, its own sound and all that there are."""

    @classmethod
    def of(cls, present: Tensor) -> Pairs:
        """The pairs of the sources [M], of which some are present."""
        there = gather_rows(present.float() * rows_are_counted()) > 0
        own = places_of_own_rows(len(present), present.device)
        return cls(own=own, there=there | _at(own, len(there)))

    @property
    def others(self) -> Tensor:
        """bool [M, R]: the sounds of other mixtures."""
        return self.there & ~_at(self.own, self.there.shape[1])

    def of_own(self, values: Tensor) -> Tensor:
        """Values [M, ...] of pictures and their own sounds, of those [M, R, ...] of all."""
        return values[torch.arange(len(values), device=values.device), self.own]

    def mean_over_others(self, values: Tensor) -> Tensor:
        """Mean [M] of values [M, R] over the sounds of other mixtures; 0 where there is none."""
        others = self.others
        return values.masked_fill(~others, 0).sum(dim=1) / others.sum(dim=1).clamp(min=1)

    def masked(self, values: Tensor) -> Tensor:
        """Logits [M, R], minus infinity where there is no sound."""
        return values.masked_fill(~self.there, -torch.inf)


def correspondence_loss(
    loss_of: Callable[[Pairs, Tensor, Tensor], Tensor], pictures: Tensor, sounds: Tensor, present: Tensor
) -> Tensor:
    """The mean, a scalar, over all sources of what `loss_of` gives each picture: losses [M] of the pictures [M, ...] of
    this worker and the sounds [R, ...] of all workers.

    `pictures` are [B, S, ...], `sounds` [B, S, ...], `present` bool [B, S]. The picture of source s of a mixture is
    compared with the sounds of source s of all mixtures. What compares pairs runs in float32 at least.
    """
    total, count = pictures.new_zeros((), dtype=torch.promote_types(pictures.dtype, torch.float32)), present.sum()
    with torch.autocast(pictures.device.type, enabled=False):
        for s in range(present.shape[1]):
            heard = gather_rows(at_least_float32(sounds[:, s]))
            losses = loss_of(Pairs.of(present[:, s]), at_least_float32(pictures[:, s]), heard)
            total = total + (losses * present[:, s]).sum()
    return total / count.clamp(min=1)


def _at(own: Tensor, num_sounds: int) -> Tensor:
    """bool [M, R]: where a picture meets its own sound."""
    return own[:, None] == torch.arange(num_sounds, device=own.device)
