"""SLAVC, which parts where something sounds from whether it does at all (Mo and Morgado, "A Closer Look at
Weakly-Supervised Audio-Visual Source Localization", NeurIPS 2022).

Each location of a picture says by one head which sound of the batch it belongs to, and each sound says by another which
location is its own; the product, summed over locations, is the likelihood of the pair. Nearly all visual features are
dropped in training, and each modality learns from encoders of the other that follow the trained ones slowly.

Shape letters: B batch, N sources, V views, P locations, D width; M pictures, R sounds of all workers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from cocktail.config.model import Start
from cocktail.layers.dropout import Dropout
from cocktail.layers.encoders import unit
from cocktail.layers.two_towers import SingleMapConfig, SingleMapLocalizer
from cocktail.layers.views import View
from cocktail.losses.correspondence import Pairs, correspondence_loss
from cocktail.types import Localization, MixtureBatch, Query, require

HEADS = 2
"""Correspondence, then localization."""


@dataclass(frozen=True, kw_only=True)
class SLAVCConfig(SingleMapConfig):
    """The published network and its training on VGG-Sound."""

    temperature: float = 0.03
    """Temperature of both heads."""
    momentum: float = 0.999
    """Share of the followers' weights that an update leaves."""
    visual_dropout: float = 0.9
    """Share of the visual features that are dropped before the heads, in training."""
    audio_dropout: float = 0.0
    """The same of the sound's."""
    maps_by: Literal["online", "momentum"] = "online"
    """Encoders whose maps are tested: the trained ones, as the published test has them, or those that follow, as its
    validation has. The others' maps are an alternative."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.temperature > 0, f"temperature must be positive, not {self.temperature}")
        for name in ("momentum", "visual_dropout", "audio_dropout"):
            require(0 <= getattr(self, name) < 1, f"{name} must be in [0, 1), not {getattr(self, name)}")
        require(
            self.maps_by == "online" or self.ogl_alpha is None,
            "ogl_alpha blends the maps of the online encoders: leave maps_by at online",
        )

    def start(self) -> Start:
        """ImageNet's weights, of both visual encoders, and of the object prior, if there is one."""
        start = super().start()
        return replace(start, modules=("momentum.visual_encoder.resnet", *start.modules))

    def build(self, num_classes: int) -> SLAVC:
        """The network, freshly initialised from torch's random state; it knows no classes."""
        return SLAVC(self)


SMALL_SLAVC = SLAVCConfig(
    width=64, resnet_width=16, visual_stages=2, initial_weights="none", momentum=0.99, visual_dropout=0.5
)
"""A million and a half parameters, for some minutes on two cores; the encoders of SMALL_AVGN. In 300 steps what is a
thousand behind would still be at the start, and of 32 channels nine in ten are too many to drop."""


class TwoHeads(SingleMapLocalizer):
    """Towers with two heads: vectors [..., 2 D], each half of length one."""

    def __init__(self, config: SLAVCConfig) -> None:
        super().__init__(replace(config, width=HEADS * config.width), unit_length=False)
        self.visual_encoder.dropout = Dropout(config.visual_dropout)
        self.audio_encoder.dropout = Dropout(config.audio_dropout)

    def sounds(self, mixture: Tensor) -> Tensor:
        """Vectors of both heads [B, 1, 2 D] of mixtures [B, T]."""
        return _unit_heads(super().sounds(mixture))

    def locations(self, pictures: Tensor, view: View) -> Tensor:
        """Vectors of both heads [B, V, P, 2 D] of the views of pictures uint8 [B, K, H, W, 3]."""
        return _unit_heads(super().locations(pictures, view))

    def similarity(self, sounds: Tensor, locations: Tensor) -> Tensor:
        """The mean [B, N, P] of both heads' cosines."""
        return super().similarity(sounds, locations) / HEADS


class SLAVC(TwoHeads):
    """A `cocktail.types.Localizer` that is `Following`: `momentum` holds the encoders behind the trained ones."""

    def __init__(self, config: SLAVCConfig) -> None:
        super().__init__(config)
        self.config = config
        momentum = TwoHeads(config)
        momentum.load_state_dict(self.state_dict())
        self.momentum = momentum.requires_grad_(False)
        self.complete()

    @torch.no_grad()
    def follow(self) -> None:
        """Take the momentum encoders nearer to the trained ones. Batch statistics are each's own."""
        for name, behind in self.momentum.named_parameters():
            behind.lerp_(self.get_parameter(name), 1 - self.config.momentum)

    def forward(self, batch: MixtureBatch) -> dict[str, Tensor]:
        """Loss: each picture finds its own sound among the batch's, by the sounds of the momentum encoders, and by
        their view of the picture with the trained sounds."""
        sounds, locations, present = self.pairs(batch)
        with torch.no_grad():
            targets, target_locations, _ = self.momentum.pairs(batch)
        pictures = torch.cat([locations, target_locations], dim=-1)
        loss = correspondence_loss(self._losses, pictures, torch.cat([sounds, targets], dim=-1), present)
        return {"localization": loss, "total": loss}

    def _losses(self, pairs: Pairs, pictures: Tensor, sounds: Tensor) -> Tensor:
        locations, target_locations = pictures.chunk(2, dim=-1)
        online, targets = sounds.chunk(2, dim=-1)
        return self._cross_entropy(pairs, locations, targets) + self._cross_entropy(pairs, target_locations, online)

    def _cross_entropy(self, pairs: Pairs, locations: Tensor, sounds: Tensor) -> Tensor:
        """-ln of the share [M] that a picture's own sound has of the likelihoods of all."""
        picture_heads, sound_heads = (x.unflatten(-1, (HEADS, -1)) for x in (locations, sounds))
        logits = torch.einsum("mphd,rhd->hmrp", picture_heads, sound_heads) / self.config.temperature
        # Not minus infinity, of which a sum over locations would have no gradient.
        nowhere = torch.finfo(logits.dtype).min / 4
        which = logits[0].masked_fill(~pairs.there[..., None], nowhere).log_softmax(dim=1)
        where = logits[1].log_softmax(dim=2)
        return F.cross_entropy(pairs.masked((which + where).logsumexp(dim=2)), pairs.own, reduction="none")

    @torch.no_grad()
    def localize(self, mixture: Tensor, query: Query) -> Localization:
        """Maps by the encoders that are chosen; by the others, too, as an alternative, if these are wanted."""
        if self.config.maps_by == "momentum":
            own, name, other = self.momentum.localize, "online encoders", super().localize
        else:
            own, name, other = super().localize, "momentum encoders", self.momentum.localize
        localization = own(mixture, query)
        if not query.alternatives:
            return localization
        beside = replace(other(mixture, query), alternatives={})
        return replace(localization, alternatives={**localization.alternatives, name: beside})


def _unit_heads(vectors: Tensor) -> Tensor:
    """Vectors [..., 2 D] whose halves have length one."""
    return unit(vectors.unflatten(-1, (HEADS, -1))).flatten(-2)
