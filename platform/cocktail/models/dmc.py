"""DMC, which clusters what is seen and what is heard inside the network, and compares the clusters (Hu, Nie and Li,
"Deep Multimodal Clustering for Unsupervised Audiovisual Learning", CVPR 2019).

The locations of a picture become a few centres by soft k-means, the cells of a sound one, their mean. A picture and a
sound are as far apart as the nearest centre is; the map is how much of each location is that centre's.

Shape letters: B batch, N sources, V views, K centres, P locations, D width; M pictures, R sounds of all workers.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cocktail.layers.two_towers import SingleMapConfig, SingleMapLocalizer
from cocktail.losses.correspondence import Pairs, correspondence_loss
from cocktail.types import MixtureBatch, require


@dataclass(frozen=True, kw_only=True)
class DMCConfig(SingleMapConfig):
    """The authors' published network for localization, on the towers that all localizers share."""

    dilate: bool = True
    num_centres: int = 2
    """Centres of a picture."""
    num_iterations: int = 4
    """Rounds of assignment and means."""
    sharpness: float = 30.0
    """Factor of the distances whose softmax assigns locations to centres."""
    margin: float = 5.0
    """Distance from which on pictures and sounds of different clips are far enough apart."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("sharpness", "margin"):
            require(getattr(self, name) > 0, f"{name} must be positive, not {getattr(self, name)}")
        require(self.num_centres >= 2, f"num_centres must be at least 2, not {self.num_centres}: one says no place")
        require(self.num_iterations >= 1, f"num_iterations must be at least 1, not {self.num_iterations}")

    def build(self, num_classes: int) -> DMC:
        """The network, freshly initialised from torch's random state; it knows no classes."""
        return DMC(self)


SMALL_DMC = DMCConfig(width=64, resnet_width=16, visual_stages=2, dilate=False, initial_weights="none")
"""Under a million parameters, for some minutes on two cores; the encoders of SMALL_AVGN."""


class DMC(SingleMapLocalizer):
    """A `cocktail.types.Localizer`, whose maps are shares of a cluster."""

    def __init__(self, config: DMCConfig) -> None:
        super().__init__(config, audio_tokens="map", unit_length=False)
        self.config = config
        self.complete()

    def sounds(self, mixture: Tensor) -> Tensor:
        """The one centre [B, 1, D] of the cells of mixtures [B, T]: all are its own."""
        return super().sounds(mixture).mean(dim=1, keepdim=True)

    def clusters(self, locations: Tensor) -> tuple[Tensor, Tensor]:
        """Centres [..., K, D], and the share [..., K, P] that each has of each of the locations [..., P, D].

        The first centres are evenly spaced locations.
        """
        config, P = self.config, locations.shape[-2]
        centres = locations[..., [k * (P // config.num_centres) for k in range(config.num_centres)], :]
        shares = torch.empty(0)
        for _ in range(config.num_iterations):
            shares = (-config.sharpness * _distances(centres, locations)).softmax(dim=-2)
            total = shares.sum(dim=-1, keepdim=True).clamp(min=torch.finfo(shares.dtype).tiny)
            centres = shares @ locations / total
        return centres, shares

    def similarity(self, sounds: Tensor, locations: Tensor) -> Tensor:
        """How much [B, N, P] of each of the locations [B, N, P, D] is of the centre nearest to the sounds [B, N, D]."""
        centres, shares = self.clusters(locations)
        nearest = _distances(centres, sounds[..., None, :]).squeeze(-1).argmin(dim=-1)
        return shares.take_along_dim(nearest[..., None, None], dim=-2).squeeze(-2)

    def forward(self, batch: MixtureBatch) -> dict[str, Tensor]:
        """Loss: pictures are near their own sounds, and at least the margin from the other sounds of the batch.

        Differs from the published code, which draws another picture a sound: all others of the batch count, as much
        together as the own.
        """
        sounds, locations, present = self.pairs(batch)
        loss = correspondence_loss(self._losses, locations, sounds, present)
        return {"localization": loss, "total": loss}

    def _losses(self, pairs: Pairs, locations: Tensor, sounds: Tensor) -> Tensor:
        centres, _ = self.clusters(locations)
        apart = _distances(centres.flatten(0, 1), sounds).unflatten(0, centres.shape[:2]).amin(dim=1)
        missing = (self.config.margin - apart).clamp(min=0)
        return (pairs.of_own(apart.square()) + pairs.mean_over_others(missing.square())) / 4


def _distances(vectors: Tensor, others: Tensor) -> Tensor:
    """Euclidean distances [..., K, P] of vectors [..., K, D] and [..., P, D]; those of 0 have no gradient."""
    return torch.cdist(vectors, others, compute_mode="donot_use_mm_for_euclid_dist")
