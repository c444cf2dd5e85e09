"""A time-domain separator: a filter a class, without masks, whose estimates are shorter than the mixture."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cocktail.audio.mixing import mix
from cocktail.config.model import ModelConfig
from cocktail.types import MixtureBatch, Query, Separation


@dataclass(frozen=True, kw_only=True)
class StrangerConfig(ModelConfig):
    """A filter a class."""

    taps: int = 33
    """Length of the filters, in samples."""

    def build(self, num_classes: int) -> Filters:
        """Random filters."""
        return Filters(self.taps, num_classes)


class Filters(nn.Module):
    """A `cocktail.types.Separator`."""

    def __init__(self, taps: int, num_classes: int) -> None:
        super().__init__()
        self.taps = nn.Parameter(0.1 * torch.randn(num_classes, 1, taps))

    def estimates(self, mixture: Tensor, class_ids: Tensor) -> Tensor:
        """Filtered mixtures [B, N, T - taps + 1]."""
        filtered = F.conv1d(mixture[:, None], self.taps)
        return filtered[torch.arange(len(mixture))[:, None], class_ids.clamp(min=0)]

    def forward(self, batch: MixtureBatch) -> dict[str, Tensor]:
        mixture, references = mix(batch)
        estimates = self.estimates(mixture, batch.class_ids)
        return {"total": F.mse_loss(estimates, references[..., : estimates.shape[-1]])}

    @torch.no_grad()
    def separate(self, mixture: Tensor, query: Query) -> Separation:
        return Separation(estimates=self.estimates(mixture, query.named), class_ids=query.named)
