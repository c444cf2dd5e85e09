"""A separator without weights: each source gets a band of the mixture's frequencies, and nobody says whose it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from cocktail.config.model import ModelConfig
from cocktail.types import NO_CLASS, MixtureBatch, Query, Separation


@dataclass(frozen=True, kw_only=True)
class StrangerConfig(ModelConfig):
    """Bands of equal width."""

    trains: ClassVar[bool] = False

    def build(self, num_classes: int) -> Bands:
        """There is nothing to initialise."""
        return Bands()


class Bands(nn.Module):
    """A `cocktail.types.Separator`."""

    def forward(self, batch: MixtureBatch) -> dict[str, Tensor]:
        raise AssertionError("it learns nothing")

    @torch.no_grad()
    def separate(self, mixture: Tensor, query: Query) -> Separation:
        spectrum = torch.fft.rfft(mixture)
        count = int(query.num_sources.max())
        band = torch.arange(spectrum.shape[-1], device=mixture.device) * count // spectrum.shape[-1]
        chosen = band == torch.arange(count, device=mixture.device)[:, None]
        estimates = torch.fft.irfft(spectrum[:, None] * chosen, n=mixture.shape[-1])
        unnamed = torch.full(estimates.shape[:2], NO_CLASS, device=mixture.device)
        return Separation(estimates=estimates, class_ids=unnamed)
