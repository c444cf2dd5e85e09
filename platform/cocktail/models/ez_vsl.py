"""EZ-VSL, the plain contrast that AVGN is compared with (Mo and Morgado, "Localizing Visual Sounds the Easy Way",
ECCV 2022).

A sound's vector is compared with every location of the pictures of a batch; the best location counts. There are no
classes: one map serves for all that is heard. The network is AVGN's without tokens and grouping.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from cocktail.audio.power_spectrum import PowerSpectrumConfig
from cocktail.config.mixing import Mixing
from cocktail.config.model import ModelConfig, Start
from cocktail.layers.views import View
from cocktail.models.avgn import AVGN, AVGNConfig


@dataclass(frozen=True, kw_only=True)
class EZVSLConfig(ModelConfig):
    """The paper's network, on the sound of mixtures."""

    fewest_mixtures: ClassVar[int] = AVGNConfig.fewest_mixtures

    width: int = 512
    """Width of locations and sounds."""
    resnet_width: int = 64
    """Channels of the first stage of both encoders, which are ResNet-18s; torchvision's weights have 64."""
    visual_stages: Literal[2, 3, 4] = 4
    """Stages of the visual encoder; the paper's and torchvision's have four. A location of four sees the whole picture,
    and only learns from ImageNet's weights to speak of what lies there; of two it sees 99 pixels."""
    temperature: float = 0.03
    """Temperature of the contrast."""
    view: View = "wide"
    """The pictures of a mixture side by side as one; or each by itself, as a pair of its own with the mixture's sound.
    Both are scored."""
    initial_weights: str = "auto"
    """Weights that the visual encoder starts from: file or URI of torchvision's of ResNet-18; `auto` takes ImageNet's
    where torchvision keeps them and random ones otherwise, and says which; `none` are random ones."""
    ogl_alpha: float | None = None
    """Test maps also blended with what looks like an object to ImageNet's ResNet-18 (object-guided localization): the
    maps' share, the paper's 0.4. None leaves this out. Needs initial_weights."""
    spectrum: PowerSpectrumConfig = field(default_factory=PowerSpectrumConfig)

    def __post_init__(self) -> None:
        self._network()  # refuses what it cannot be

    def _network(self) -> AVGNConfig:
        own = {setting.name: getattr(self, setting.name) for setting in dataclasses.fields(self)}
        return AVGNConfig(source_vectors="pooled", **own)

    def require_mixing(self, mixing: Mixing) -> None:
        """Raise UsageError as `require_test_mixing`, or for mixtures of several numbers of sources."""
        self._network().require_mixing(mixing)

    def require_test_mixing(self, mixing: Mixing) -> None:
        """Raise UsageError for mixtures without pictures, or of another rate."""
        self._network().require_test_mixing(mixing)

    def start(self) -> Start:
        """ImageNet's weights, as AVGN's."""
        return self._network().start()

    def build(self, num_classes: int) -> AVGN:
        """The network, freshly initialised from torch's random state; it knows no classes."""
        return self._network().build(num_classes)


SMALL_EZ_VSL = EZVSLConfig(width=64, resnet_width=16, visual_stages=2, initial_weights="none")
"""Under a million parameters, for some minutes on two cores; the encoders of SMALL_AVGN."""
