"""OTS: AVOL-Net, which learns where a picture and a sound agree from whether they are of one clip (Arandjelovic and
Zisserman, "Objects that Sound", ECCV 2018).

The best location of a picture decides; a scale and an offset make a probability of its likeness to the sound.

Shape letters: B batch, N sources, P locations, D width; M pictures, R sounds of all workers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cocktail.layers.two_towers import SingleMapConfig, SingleMapLocalizer
from cocktail.losses.contrast import best_similarity
from cocktail.losses.correspondence import Pairs, correspondence_loss
from cocktail.types import MixtureBatch, require


@dataclass(frozen=True, kw_only=True)
class OTSConfig(SingleMapConfig):
    """The paper's width and its 14 x 14 locations, on the towers that all localizers share."""

    width: int = 128
    dilate: bool = True
    initial_scale: float = 10.0
    """Scale of the cosines at the start, which the paper does not say; it learns, and stays positive."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.initial_scale > 0, f"initial_scale must be positive, not {self.initial_scale}")

    def build(self, num_classes: int) -> OTS:
        """The network, freshly initialised from torch's random state; it knows no classes."""
        return OTS(self)


SMALL_OTS = OTSConfig(width=64, resnet_width=16, visual_stages=2, dilate=False, initial_weights="none")
"""Under a million parameters, for some minutes on two cores; the encoders of SMALL_AVGN."""


class OTS(SingleMapLocalizer):
    """A `cocktail.types.Localizer`, whose maps are probabilities."""

    def __init__(self, config: OTSConfig) -> None:
        super().__init__(config)
        self.config = config
        self.log_scale = nn.Parameter(torch.tensor(math.log(config.initial_scale)))
        self.offset = nn.Parameter(torch.zeros(()))
        self.complete()

    def logits(self, cosines: Tensor) -> Tensor:
        """Logits [...] of cosines [...] being those of what sounds."""
        return self.log_scale.exp() * cosines + self.offset

    def similarity(self, sounds: Tensor, locations: Tensor) -> Tensor:
        """Probability [B, N, P] of each location to sound, of sounds [B, N, D] and locations [B, N, P, D]."""
        return self.logits(super().similarity(sounds, locations)).sigmoid()

    def forward(self, batch: MixtureBatch) -> dict[str, Tensor]:
        """Loss: which pairs of pictures and sounds of the batch are of one clip.

        Differs from the paper, which draws one other sound a picture: all others of the batch count, as much together
        as the own.
        """
        sounds, locations, present = self.pairs(batch)
        loss = correspondence_loss(self._losses, locations, sounds, present)
        return {"localization": loss, "total": loss}

    def _losses(self, pairs: Pairs, locations: Tensor, sounds: Tensor) -> Tensor:
        logits = self.logits(best_similarity(sounds, locations))
        return (F.softplus(-pairs.of_own(logits)) + pairs.mean_over_others(F.softplus(logits))) / 2
