"""Two towers, one that hears and one that sees, which localizers stand on: their settings, their encoders, and all that
a localizer with one map for whatever is heard has beside its loss.

Shape letters: B batch, K pictures of a mixture, V views (one wide picture, or each picture by itself), N sources,
T samples, P locations of a view, Q vectors of a sound, D width, H and W height and width of a picture.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from cocktail.audio.mixing import superpose
from cocktail.audio.power_spectrum import LogPowerSpectrum, PowerSpectrumConfig
from cocktail.config.mixing import Mixing
from cocktail.config.model import ModelConfig, Start
from cocktail.layers.encoders import AudioEncoder, VisualEncoder
from cocktail.layers.object_prior import ObjectPrior
from cocktail.layers.resnet import stride_of
from cocktail.layers.views import View, require_pictures, to_pictures, view_names, view_of, views_of
from cocktail.types import NO_CLASS, Localization, MixtureBatch, Query, UsageError, require

WITH_OBJECT_PRIOR = "with object prior"


@dataclass(frozen=True, kw_only=True)
class TowersConfig(ModelConfig):
    """The settings of two towers, which the configuration of each localizer inherits."""

    fewest_mixtures: ClassVar[int] = 2
    packages: ClassVar[tuple[str, ...]] = ("torchvision",)

    width: int = 512
    """Width of locations and sounds, and of class tokens if there are any."""
    resnet_width: int = 64
    """Channels of the first stage of both encoders, which are ResNet-18s; torchvision's weights have 64."""
    visual_stages: Literal[2, 3, 4] = 4
    """Stages of the visual encoder; the papers' and torchvision's have four. A location of four sees the whole picture,
    and only learns from ImageNet's weights to speak of what lies there; of two it sees 99 pixels."""
    dilate: bool = False
    """Dilate the last visual stage instead of halving the map: 14 x 14 locations of a picture of 224 pixels, not 7 x 7,
    that see as far."""
    view: View = "wide"
    """Pictures of a mixture side by side as one, in which every source has to be found; or each by itself, with the
    mixture's sound, a different and easier task. Both are scored."""
    initial_weights: str = "auto"
    """Weights that the visual encoder starts from: file or URI of torchvision's ResNet-18; `auto` takes ImageNet's
    where torchvision, or an earlier run of the same output, keeps them, and fails where neither does; `none` are random
    ones."""
    ogl_alpha: float | None = None
    """Share of the maps where they are also blended with what looks like an object to ImageNet's ResNet-18 (EZ-VSL's
    object-guided localization): 0.4 there, 0.3 in AVGN's code. None leaves this out. Needs initial_weights."""
    spectrum: PowerSpectrumConfig = field(default_factory=PowerSpectrumConfig)

    def __post_init__(self) -> None:
        require(
            self.ogl_alpha is None or 0 <= self.ogl_alpha <= 1, f"ogl_alpha must be in [0, 1], not {self.ogl_alpha}"
        )

    def require_mixing(self, mixing: Mixing) -> None:
        """Raise UsageError for mixtures that cannot be learned from: as `require_test_mixing`, or of several numbers
        of sources."""
        if mixing.fewest_sources != mixing.num_sources:
            raise UsageError(
                f"localization learns from mixtures of one number of sources, not of {mixing.fewest_sources} to "
                f"{mixing.num_sources}: leave out --mixing.min-sources"
            )
        self.require_test_mixing(mixing)

    def require_test_mixing(self, mixing: Mixing) -> None:
        """Raise UsageError for mixtures without pictures, or of another rate."""
        stride = stride_of(self.visual_stages, self.dilate)
        require_pictures(mixing, self.spectrum, stride if self.ogl_alpha is None else stride_of(4))

    def start(self) -> Start:
        """ImageNet's weights, of the visual encoder and of the object prior, which needs them."""
        prior = self.ogl_alpha is not None
        return Start(
            setting="initial_weights",
            chosen=self.initial_weights,
            modules=("visual_encoder.resnet", "object_prior.resnet") if prior else ("visual_encoder.resnet",),
            needed_for="ogl_alpha" if prior else None,
        )


@dataclass(frozen=True, kw_only=True)
class SingleMapConfig(TowersConfig):
    """The settings of a `SingleMapLocalizer`, which can be tested on any classes: it knows none."""

    needs_known_classes: ClassVar[bool] = False


class TwoTowers(nn.Module):
    """Sounds and locations as vectors of one space; the base of localizers. Of length one, or as encoders give them."""

    def __init__(
        self, config: TowersConfig, audio_tokens: Literal["pooled", "map"] = "pooled", unit_length: bool = True
    ) -> None:
        super().__init__()
        self.view: View = config.view
        self.ogl_alpha = config.ogl_alpha
        self.spectrum = LogPowerSpectrum(config.spectrum)
        self.visual_encoder = VisualEncoder(
            config.width, config.resnet_width, config.visual_stages, config.dilate, unit_length
        )
        self.audio_encoder = AudioEncoder(config.width, audio_tokens, config.resnet_width, unit_length)
        self.object_prior: ObjectPrior | None = None

    def complete(self) -> None:
        """Add the object prior, if there is to be one, and lay out all weights for convolutions.

        Models call it at the end of their constructor, so that with a prior nothing else starts from other weights.
        """
        if self.ogl_alpha is not None:
            self.object_prior = ObjectPrior()
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def sounds(self, mixture: Tensor) -> Tensor:
        """Vectors f^a [B, Q, D] of mixtures [B, T]."""
        return self.audio_encoder(self.spectrum(mixture))

    def locations(self, pictures: Tensor, view: View) -> Tensor:
        """Vectors f^v [B, V, P, D] of the views of pictures uint8 [B, K, H, W, 3]."""
        views = views_of(pictures, view)
        return self.visual_encoder(views.flatten(0, 1)).unflatten(0, views.shape[:2])

    def maps(self, similarity: Tensor, pictures: Tensor) -> Tensor:
        """Maps [B, N, H, width] of similarities [B, N, P], at the size of the view of pictures [B, K, H, W, 3]."""
        return to_pictures(similarity, pictures.shape[2], self.visual_encoder.resnet.stride)

    def with_object_prior(self, own: Localization, pictures: Tensor, view: View) -> dict[str, Localization]:
        """Maps blended with the object prior, under the name of that reading, if the model has one."""
        if self.object_prior is None or self.ogl_alpha is None:
            return {}
        blended = self.object_prior.blend(own.maps, views_of(pictures, view), own.class_ids, self.ogl_alpha)
        return {WITH_OBJECT_PRIOR: replace(own, maps=blended)}


class SingleMapLocalizer(TwoTowers):
    """A `cocktail.types.Localizer` with one map for all that is heard, the same for every source of a mixture.

    A model adds its loss as `forward`, and overrides `similarity` if its maps are no cosines. A sound has one vector.
    """

    def pairs(self, batch: MixtureBatch) -> tuple[Tensor, Tensor, Tensor]:
        """Sounds [B, N, D], the locations [B, N, P, D] of what they come with, and which pairs there are [B, N].

        The sound of a mixture comes with the wide picture, one pair, or with each picture by itself, N pairs.
        """
        assert batch.pictures is not None
        locations = self.locations(batch.pictures[:, :, 0], self.view)
        present = batch.present[:, :1] if locations.shape[1] == 1 else batch.present
        sounds = self.sounds(superpose(batch))
        return sounds.expand(-1, present.shape[1], -1), locations, present

    def similarity(self, sounds: Tensor, locations: Tensor) -> Tensor:
        """Likelihood [B, N, P] of each location to sound, of sounds [B, N, D] and locations [B, N, P, D]: cosines."""
        return torch.einsum("bnd,bnpd->bnp", sounds, locations)

    @torch.no_grad()
    def localize(self, mixture: Tensor, query: Query) -> Localization:
        """Maps by the model's own view; by the other, and blended with the object prior, as alternatives."""
        pictures = query.shown[:, :, 0]
        assert query.seen is not None
        unnamed = torch.full(query.seen.shape, NO_CLASS, device=pictures.device)
        sounds = self.sounds(mixture).expand(-1, unnamed.shape[1], -1)

        def reading(view: View) -> Localization:
            locations = self.locations(pictures, view)
            similarity = self.similarity(sounds, locations[:, view_of(unnamed, locations)])
            count = 1 if locations.shape[1] == 1 else similarity.shape[1]  # of one view, one map serves for all
            return Localization(maps=self.maps(similarity[:, :count], pictures), class_ids=unnamed[:, :count])

        view, *others = view_names(pictures, self.view)
        own = reading(view)
        alternatives = {other: reading(other) for other in others} | self.with_object_prior(own, pictures, view)
        return replace(own, alternatives=alternatives)
