"""A separator that sees: the mean colour of a source's picture says how loud it is in each band of the mixture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cocktail.audio.mixing import mix
from cocktail.config.mixing import Mixing
from cocktail.config.model import ModelConfig
from cocktail.types import MixtureBatch, Query, Separation, require


@dataclass(frozen=True, kw_only=True)
class StrangerConfig(ModelConfig):
    """Bands of equal width."""

    sees: ClassVar[bool] = True

    num_bands: int = 8
    """Bands of the mixture's frequencies."""

    def require_test_mixing(self, mixing: Mixing) -> None:
        require(mixing.pictures_per_source >= 1, "it has to see: set --mixing.pictures-per-source")

    def build(self, num_classes: int) -> Colours:
        """Random gains."""
        return Colours(self.num_bands)


class Colours(nn.Module):
    """A `cocktail.types.Separator`."""

    def __init__(self, num_bands: int) -> None:
        super().__init__()
        self.gains = nn.Linear(3, num_bands)

    def estimates(self, mixture: Tensor, pictures: Tensor) -> Tensor:
        """Mixtures [B, T] with the gains that pictures [B, N, P, H, W, 3] give, [B, N, T]."""
        gains = self.gains(pictures.float().mean(dim=(2, 3, 4)) / 255).sigmoid()
        spectrum = torch.fft.rfft(mixture)
        band = torch.arange(spectrum.shape[-1], device=mixture.device) * gains.shape[-1] // spectrum.shape[-1]
        return torch.fft.irfft(spectrum[:, None] * gains[..., band], n=mixture.shape[-1])

    def forward(self, batch: MixtureBatch) -> dict[str, Tensor]:
        assert batch.pictures is not None
        mixture, references = mix(batch)
        return {"total": F.mse_loss(self.estimates(mixture, batch.pictures), references)}

    @torch.no_grad()
    def separate(self, mixture: Tensor, query: Query) -> Separation:
        return Separation(estimates=self.estimates(mixture, query.shown), class_ids=query.named)
