"""EZ-VSL, the plain contrast that AVGN is compared with (Mo and Morgado, "Localizing Visual Sounds the Easy Way",
ECCV 2022).

A sound's vector is compared with every location of the pictures of a batch; the best location counts. There are no
classes: one map serves for all that is heard.

Shape letters: B batch, K pictures of a mixture, V views, N sources, T samples, P locations, D width, H and W height and
width of a picture.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor, nn

from cocktail.audio.mixing import superpose
from cocktail.audio.power_spectrum import LogPowerSpectrum, PowerSpectrumConfig
from cocktail.config import Mixing
from cocktail.layers.encoders import AudioEncoder, VisualEncoder
from cocktail.layers.views import View, require_pictures, to_pictures, view_names, view_of, views_of
from cocktail.losses.contrast import audio_visual_contrast
from cocktail.types import NO_CLASS, Localization, MixtureBatch, UsageError


@dataclass(frozen=True, kw_only=True)
class EZVSLConfig:
    """The paper's network, on the sound of mixtures."""

    width: int = 512
    """Width of locations and sounds."""
    resnet_width: int = 64
    """Channels of the first stage of both encoders, which are ResNet-18s; torchvision's weights have 64."""
    visual_stages: Literal[2, 3, 4] = 4
    """Stages of the visual encoder; the paper's and torchvision's have four. A location of four sees the whole picture,
    and only learns from ImageNet's weights to speak of what lies there; of two it sees 99 pixels."""
    temperature: float = 0.03
    """Of the contrast."""
    view: View = "wide"
    """The pictures of a mixture side by side as one; or each by itself, as a pair of its own with the mixture's sound.
    Both are scored."""
    initial_weights: str = "auto"
    """Of the visual encoder: file or URI of torchvision's ResNet-18 weights; `auto` takes ImageNet's where torchvision
    keeps them and random ones otherwise, and says which; `none` are random ones."""
    spectrum: PowerSpectrumConfig = field(default_factory=PowerSpectrumConfig)

    def __post_init__(self) -> None:
        if self.temperature <= 0:
            raise ValueError(f"temperature must be positive, not {self.temperature}")

    def require_mixing(self, mixing: Mixing) -> None:
        """Raise UsageError as `require_test_mixing`, or for mixtures of several numbers of sources."""
        if mixing.fewest_sources != mixing.num_sources:
            raise UsageError(
                f"EZ-VSL learns from mixtures of one number of sources, not of {mixing.fewest_sources} to "
                f"{mixing.num_sources}: leave out --mixing.min-sources"
            )
        self.require_test_mixing(mixing)

    def require_test_mixing(self, mixing: Mixing) -> None:
        """Raise UsageError for mixtures without pictures, or of another rate."""
        require_pictures(mixing, self.spectrum, self.visual_stages)

    def build(self, num_classes: int) -> EZVSL:
        """The network, freshly initialised from torch's random state; it knows no classes."""
        return EZVSL(self)


SMALL_EZ_VSL = EZVSLConfig(width=64, resnet_width=16, visual_stages=2)
"""Under a million parameters, for some minutes on two cores; the encoders of SMALL_AVGN."""


class EZVSL(nn.Module):
    """A `cocktail.types.Localizer`."""

    def __init__(self, config: EZVSLConfig) -> None:
        super().__init__()
        self.config = config
        self.spectrum = LogPowerSpectrum(config.spectrum)
        self.visual_encoder = VisualEncoder(config.width, config.resnet_width, config.visual_stages)
        self.audio_encoder = AudioEncoder(config.width, resnet_width=config.resnet_width)
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def load_initial(self, state: Mapping[str, Tensor]) -> None:
        """Start the visual encoder from torchvision's weights of a ResNet-18."""
        self.visual_encoder.resnet.load_torchvision(state)

    def hear(self, mixture: Tensor) -> Tensor:
        """f^a [B, 1, D] of mixtures [B, T]."""
        return self.audio_encoder(self.spectrum(mixture))

    def see(self, pictures: Tensor, view: View) -> Tensor:
        """f^v [B, V, P, D] of pictures uint8 [B, K, H, W, 3]."""
        views = views_of(pictures, view)
        return self.visual_encoder(views.flatten(0, 1)).unflatten(0, (views.shape[0], views.shape[1]))

    def forward(self, batch: MixtureBatch) -> dict[str, Tensor]:
        """The loss: each sound against the batch's pictures and each picture against its sounds."""
        assert batch.pictures is not None
        locations = self.see(batch.pictures[:, :, 0], self.config.view)
        sounds = self.hear(superpose(batch)).expand(-1, locations.shape[1], -1)
        present = batch.present[:, : locations.shape[1]]
        contrast = audio_visual_contrast(sounds, locations, present, self.config.temperature)
        return {"localization": contrast, "total": contrast}

    @torch.no_grad()
    def localize(self, mixture: Tensor, pictures: Tensor, class_ids: Tensor) -> Localization:
        """Cosines of the sound with each location, the same map for every source; the other view as an alternative."""
        sounds = self.hear(mixture)
        views = view_names(pictures, self.config.view)
        height = pictures.shape[2]
        found = {view: self._localization(sounds, self.see(pictures, view), class_ids, height) for view in views}
        own = found.pop(views[0])
        return replace(own, alternatives=dict(found))

    def _localization(self, sounds: Tensor, seen: Tensor, class_ids: Tensor, height: int) -> Localization:
        locations = seen[:, view_of(class_ids, seen)]
        similarity = torch.einsum("bd,bnpd->bnp", sounds[:, 0], locations)
        return Localization(
            maps=to_pictures(similarity, height, self.visual_encoder.resnet.stride),
            class_ids=torch.full_like(class_ids, NO_CLASS),
        )
