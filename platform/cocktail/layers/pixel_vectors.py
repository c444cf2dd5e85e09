"""Vectors of what is seen at each place of a picture, and of whole pictures, which pick masks out of what is heard
(Sound of Pixels, section 3.1): a dilated ResNet-18, and the settings of separators that see by it.

Shape letters: B batch, N sources, P pictures of a source, K feature maps, L pictures, H and W height and width of one,
h and w those of its map.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from cocktail.config.mixing import Mixing
from cocktail.config.model import ParameterGroup, Start
from cocktail.layers.encoders import ImageNetScale
from cocktail.layers.masking import MaskingConfig
from cocktail.layers.resnet import ResNet18, stride_of
from cocktail.numerics.precision import at_least_float32
from cocktail.types import NO_CLASS, Query, require


@dataclass(frozen=True, kw_only=True)
class SeesPixelsConfig(MaskingConfig):
    """The settings of a separator that finds each source by pictures of it."""

    sees: ClassVar[bool] = True
    needs_known_classes: ClassVar[bool] = False
    packages: ClassVar[tuple[str, ...]] = ("torchvision",)

    num_maps: int = 32
    """Feature maps K that the U-Net hears and that pictures choose among."""
    resnet_width: int = 64
    """Channels of the ResNet-18's first stage; torchvision's weights have 64."""
    visual_stages: Literal[2, 3, 4] = 4
    """Stages of the ResNet-18, the last of them dilated: of four a place is 16 pixels wide, and a picture of 224 pixels
    has 14 x 14."""
    initial_weights: str = "auto"
    """Weights that the ResNet-18 starts from: file or URI of torchvision's; `auto` takes ImageNet's where torchvision,
    or an earlier run of the same output, keeps them, and fails where neither does; `none` are random ones. It learns at
    a tenth of the rate of all else, 1e-4 and 1e-3; random weights at the whole of it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("num_maps", "resnet_width"):
            require(getattr(self, name) >= 1, f"{name} must be at least 1, not {getattr(self, name)}")

    @property
    def stride(self) -> int:
        """Pixels from a place to the next."""
        return stride_of(self.visual_stages, dilated=True)

    def require_test_mixing(self, mixing: Mixing) -> None:
        """Raise UsageError for mixtures without pictures, of another size, or of sources that no class tells apart."""
        super().require_test_mixing(mixing)
        require_shown(mixing, self.stride)

    def start(self) -> Start:
        """ImageNet's weights, of the ResNet-18."""
        return Start(setting="initial_weights", chosen=self.initial_weights, modules=("visual_encoder.resnet",))

    def parameter_groups(self, model: nn.Module) -> Sequence[ParameterGroup]:
        """The ResNet-18, which may learn more slowly, and all else; of both, what learns at all."""
        encoder: Any = model.get_submodule("visual_encoder")
        of_resnet = {id(parameter) for parameter in encoder.resnet.parameters()}
        learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
        groups = (
            ParameterGroup(
                parameters=tuple(p for p in learning if id(p) in of_resnet), rate_factor=self.start().rate_factor
            ),
            ParameterGroup(parameters=tuple(p for p in learning if id(p) not in of_resnet)),
        )
        return tuple(group for group in groups if group.parameters)


def require_shown(mixing: Mixing, stride: int) -> None:
    """Raise UsageError for mixtures without pictures, of sides that are no multiple of the stride of what sees them, or
    of sources that no class tells apart."""
    require(
        mixing.pictures_per_source >= 1,
        "this model finds a source by its pictures, and there are none: set --mixing.pictures-per-source (Sound of "
        "Pixels has 3)",
    )
    require(
        mixing.picture_side % stride == 0,
        f"--mixing.picture-side {mixing.picture_side} must be a multiple of {stride} pixels",
    )
    require(
        mixing.distinct_classes and not mixing.several_classes,
        "estimates are scored in the order of the pictures, which needs one class a source, each another's: leave out "
        "--mixing.no-distinct-classes and --mixing.several-classes",
    )


class PixelEncoder(nn.Module):
    """Maps of logits [L, K, h, w] of pictures uint8 [L, H, W, 3]; a model calls it `visual_encoder`."""

    def __init__(self, config: SeesPixelsConfig) -> None:
        super().__init__()
        self.scale = ImageNetScale()
        self.resnet = ResNet18(width=config.resnet_width, stages=config.visual_stages, dilated=True)
        self.project = nn.Conv2d(self.resnet.out_channels, config.num_maps, kernel_size=3, padding=1)

    def forward(self, pictures: Tensor) -> Tensor:
        return self.project(self.resnet(self.scale(pictures, self.project.weight.dtype)))

    def of_sources(self, pictures: Tensor, present: Tensor) -> Tensor:
        """Vectors v in (0, 1) [B, N, K] of sources by their pictures uint8 [B, N, P, H, W, 3]: the greatest logit over
        all places of all pictures. Those of sources that are not `present` mean nothing.

        Such sources show what the first shows: black pictures would count in BatchNorm's statistics.
        """
        B, N, P = pictures.shape[:3]
        seen = torch.where(present[:, :, None, None, None, None], pictures, pictures[:, :1])
        logits = at_least_float32(self(seen.flatten(0, 2)))
        return logits.unflatten(0, (B, N, P)).amax(dim=(2, 4, 5)).sigmoid()

    def of_places(self, pictures: Tensor) -> Tensor:
        """Vectors v in (0, 1) [L, h w, K] of each place of pictures uint8 [L, H, W, 3], row by row."""
        return at_least_float32(self(pictures)).sigmoid().flatten(2).transpose(1, 2)


def sources_shown(query: Query) -> tuple[Tensor, Tensor, Tensor]:
    """Pictures [B, N, P, H, W, 3] of each source of a question, which of them there are, bool [B, N], and their classes
    [B, N].

    Raises UsageError unless there are pictures of each source by itself.
    """
    pictures, seen = query.shown, query.seen
    assert seen is not None
    require(
        pictures.shape[1] == query.room,
        f"this model finds each source by pictures of its own: there are {pictures.shape[1]} of {query.room} sources; "
        "give each a picture (whole clips of several sources, --mixing.arrangement whole, have only one)",
    )
    if query.class_ids is None:
        return pictures, seen, torch.full(seen.shape, NO_CLASS, device=seen.device)
    return pictures, seen, query.class_ids
