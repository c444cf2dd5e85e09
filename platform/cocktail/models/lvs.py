"""LVS, which learns where nothing sounds as well (Chen et al., "Localizing Visual Sounds the Hard Way", CVPR 2021).

The cosines of a sound with the locations of its picture divide these into three: likely ones are to be like the sound,
unlikely ones are negatives beside the pictures' meetings with other sounds, and what lies between is left alone.

Shape letters: B batch, N sources, P locations, D width; M pictures, R sounds of all workers.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from cocktail.layers.two_towers import SingleMapConfig, SingleMapLocalizer
from cocktail.losses.correspondence import Pairs, correspondence_loss
from cocktail.types import MixtureBatch, require


@dataclass(frozen=True, kw_only=True)
class LVSConfig(SingleMapConfig):
    """The paper's network: locations 16 pixels apart."""

    dilate: bool = True
    positive_threshold: float = 0.65
    """Cosine above which a location is likely to sound."""
    negative_threshold: float = 0.4
    """Cosine below which it is unlikely to."""
    sharpness: float = 0.03
    """Scale of the sigmoids by which the thresholds are soft."""
    temperature: float = 0.07
    """Temperature of the contrast."""
    hard_negatives: bool = True
    """Take the unlikely locations of the own picture for a negative, too."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("sharpness", "temperature"):
            require(getattr(self, name) > 0, f"{name} must be positive, not {getattr(self, name)}")
        require(
            self.negative_threshold <= self.positive_threshold,
            f"negative_threshold {self.negative_threshold} must not be above positive_threshold "
            f"{self.positive_threshold}",
        )

    def build(self, num_classes: int) -> LVS:
        """The network, freshly initialised from torch's random state; it knows no classes."""
        return LVS(self)


SMALL_LVS = LVSConfig(width=64, resnet_width=16, visual_stages=2, dilate=False, initial_weights="none")
"""Under a million parameters, for some minutes on two cores; the encoders of SMALL_AVGN."""


class LVS(SingleMapLocalizer):
    """A `cocktail.types.Localizer`, all of it towers and the loss."""

    def __init__(self, config: LVSConfig) -> None:
        super().__init__(config)
        self.config = config
        self.complete()

    def forward(self, batch: MixtureBatch) -> dict[str, Tensor]:
        """Loss: each picture's likely locations are like its own sound, and unlike the other sounds of the batch."""
        sounds, locations, present = self.pairs(batch)
        loss = correspondence_loss(self._losses, locations, sounds, present)
        return {"localization": loss, "total": loss}

    def _losses(self, pairs: Pairs, locations: Tensor, sounds: Tensor) -> Tensor:
        config = self.config
        cosines = torch.einsum("mpd,rd->mrp", locations, sounds)
        likely = F.logsigmoid((cosines - config.positive_threshold) / config.sharpness)
        logits = [pairs.masked(_weighted_mean(cosines, likely))]
        if config.hard_negatives:
            own = pairs.of_own(cosines)
            unlikely = F.logsigmoid((config.negative_threshold - own) / config.sharpness)
            logits.append(_weighted_mean(own, unlikely)[:, None])
        return F.cross_entropy(torch.cat(logits, dim=1) / config.temperature, pairs.own, reduction="none")


def _weighted_mean(values: Tensor, log_weights: Tensor) -> Tensor:
    """Means [...] over locations of values [..., P], by weights whose logarithms are given: they are far below 1."""
    return (values * log_weights.softmax(dim=-1)).sum(dim=-1)
