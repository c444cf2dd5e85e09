"""Mixtures of stored sources, and their references where they are wanted."""

from __future__ import annotations

from torch import Tensor

from cocktail.types import MixtureBatch

INT16_FULL_SCALE = 32768.0


def mix(batch: MixtureBatch) -> tuple[Tensor, Tensor]:
    """The mixtures float32 [B, T] and references float32 [B, N, T] of a batch (SGN's recipe, from Sound of Pixels).

    Each source times its gain, clipped to [-1, 1], divided by the number of the mixture's sources: these are the
    references, and their sum is the mixture, so both stay within [-1, 1]. An absent source is silence.
    """
    references = amplified(batch) / batch.present.sum(dim=1)[:, None, None]
    return references.sum(dim=1), references


def superpose(batch: MixtureBatch) -> Tensor:
    """The mixtures float32 [B, T] as plain sums: each source times its gain, clipped to [-1, 1] (AVGN's recipe)."""
    return amplified(batch).sum(dim=1)


def amplified(batch: MixtureBatch) -> Tensor:
    """Each source by itself, float32 [B, N, T]: times its gain, clipped to [-1, 1]."""
    return (batch.sources.float() * (batch.gains / INT16_FULL_SCALE)[..., None]).clamp_(-1.0, 1.0)
