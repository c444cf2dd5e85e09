"""EZ-VSL, the plain contrast of sounds and pictures (Mo and Morgado, "Localizing Visual Sounds the Easy Way",
ECCV 2022).

A sound's vector is compared with every location of the pictures of a batch; the best location counts. There are no
classes: one map, the cosines, serves for all that is heard.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from cocktail.layers.two_towers import SingleMapConfig, SingleMapLocalizer
from cocktail.losses.contrast import audio_visual_contrast
from cocktail.types import MixtureBatch, require


@dataclass(frozen=True, kw_only=True)
class EZVSLConfig(SingleMapConfig):
    """The paper's network, on the sound of mixtures."""

    temperature: float = 0.03
    """Temperature of the contrast."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.temperature > 0, f"temperature must be positive, not {self.temperature}")

    def build(self, num_classes: int) -> EZVSL:
        """The network, freshly initialised from torch's random state; it knows no classes."""
        return EZVSL(self)


SMALL_EZ_VSL = EZVSLConfig(width=64, resnet_width=16, visual_stages=2, initial_weights="none")
"""Under a million parameters, for some minutes on two cores; the encoders of SMALL_AVGN."""


class EZVSL(SingleMapLocalizer):
    """A `cocktail.types.Localizer`, all of it towers and the loss."""

    def __init__(self, config: EZVSLConfig) -> None:
        super().__init__(config)
        self.config = config
        self.complete()

    def forward(self, batch: MixtureBatch) -> dict[str, Tensor]:
        """Loss: each sound finds its own picture among the batch's, and each picture its own sound."""
        loss = audio_visual_contrast(*self.pairs(batch), self.config.temperature)
        return {"localization": loss, "total": loss}
