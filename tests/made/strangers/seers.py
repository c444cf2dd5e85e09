"""A model that separates and localizes: a gain a class, and a map that is as bright as the picture."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cocktail.audio.mixing import mix
from cocktail.config.model import ModelConfig
from cocktail.types import Localization, MixtureBatch, Query, Separation


@dataclass(frozen=True, kw_only=True)
class StrangerConfig(ModelConfig):
    """A gain a class."""

    def build(self, num_classes: int) -> Seers:
        """Gains of a half."""
        return Seers(num_classes)


class Seers(nn.Module):
    """A `cocktail.types.Separator` and a `Localizer`."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.gains = nn.Parameter(torch.zeros(num_classes))

    def estimates(self, mixture: Tensor, class_ids: Tensor) -> Tensor:
        return self.gains[class_ids.clamp(min=0)].sigmoid()[..., None] * mixture[:, None]

    def forward(self, batch: MixtureBatch) -> dict[str, Tensor]:
        mixture, references = mix(batch)
        return {"total": F.mse_loss(self.estimates(mixture, batch.class_ids), references)}

    @torch.no_grad()
    def separate(self, mixture: Tensor, query: Query) -> Separation:
        return Separation(estimates=self.estimates(mixture, query.named), class_ids=query.named)

    @torch.no_grad()
    def localize(self, mixture: Tensor, query: Query) -> Localization:
        brightness = query.shown[:, :, 0].float().mean(dim=-1)
        wide = torch.cat(list(brightness.unbind(dim=1)), dim=-1)
        return Localization(maps=wide[:, None].expand(-1, query.named.shape[1], -1, -1), class_ids=query.named)
