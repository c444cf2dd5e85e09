"""Attention10k, the attention by which a sound picks what it belongs to out of a picture (Senocak et al., "Learning to
Localize Sound Source in Visual Scenes", CVPR 2018).

A sound attends to the locations of its picture; what it gathers there is to be nearer to the sound than to others. The
map is the attention. The branch that learns from annotated places is left out.

Shape letters: B batch, N sources, P locations, D width; M pictures, R sounds of all workers.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cocktail.layers.encoders import unit
from cocktail.layers.two_towers import SingleMapConfig, SingleMapLocalizer
from cocktail.losses.correspondence import Pairs, correspondence_loss
from cocktail.types import MixtureBatch


@dataclass(frozen=True, kw_only=True)
class Attention10kConfig(SingleMapConfig):
    """The paper's unsupervised branch, on the towers that all localizers share."""

    rectified: bool = True
    """Take cosines below zero for zero before the softmax, as the published code does."""

    def build(self, num_classes: int) -> Attention10k:
        """The network, freshly initialised from torch's random state; it knows no classes."""
        return Attention10k(self)


SMALL_ATTENTION10K = Attention10kConfig(width=64, resnet_width=16, visual_stages=2, initial_weights="none")
"""Under a million parameters, for some minutes on two cores; the encoders of SMALL_AVGN."""


class Attention10k(SingleMapLocalizer):
    """A `cocktail.types.Localizer`, whose maps are an attention's."""

    def __init__(self, config: Attention10kConfig) -> None:
        super().__init__(config, unit_length=False)
        self.config = config
        self.attending = _two_layers(config.width)
        self.representing = _two_layers(config.width)
        self.complete()

    def similarity(self, sounds: Tensor, locations: Tensor) -> Tensor:
        """Attention [..., P] of sounds [..., D] to locations [..., P, D], which adds up to 1."""
        cosines = torch.einsum("...d,...pd->...p", unit(self.attending(sounds)), unit(locations))
        return (cosines.relu() if self.config.rectified else cosines).softmax(dim=-1)

    def forward(self, batch: MixtureBatch) -> dict[str, Tensor]:
        """Loss: what a sound gathers in its picture is nearer to it than to the other sounds of the batch.

        Differs from the published code, which draws one other sound, and takes both from a network that is not trained:
        all others of the batch count, in the mean, and the audio tower learns.
        """
        sounds, locations, present = self.pairs(batch)
        loss = correspondence_loss(self._losses, locations, sounds, present)
        return {"localization": loss, "total": loss}

    def _losses(self, pairs: Pairs, locations: Tensor, sounds: Tensor) -> Tensor:
        attention = self.similarity(sounds[pairs.own], locations)
        seen = self.representing(torch.einsum("mp,mpd->md", attention, locations))
        apart = torch.cdist(seen, sounds, compute_mode="donot_use_mm_for_euclid_dist")
        # The squared error of softmax(d+, d-) against (0, 1) is the square of its first part.
        return pairs.mean_over_others((pairs.of_own(apart)[:, None] - apart).sigmoid().square())


def _two_layers(width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))
