"""Masks as sums of bases, which an attention U-Net hears in a mixture, with coefficients that an object has by what is
seen of it (Rahman and Sigal, "Weakly-Supervised Audio-Visual Sound Source Detection and Separation", ICME 2021, section
3.2 and eq. 4; the idea is of Bolya et al., "YOLACT", ICCV 2019).

A source is a video, which may show objects of several classes. Each has a mask; the source's is that of all of them.

Shape letters: B batch, N sources, P pictures of a source, C classes, T samples, R log-frequency rows, M frames, Q
places of the pictures of a source, D visual features, O objects, J mask bases, S room for objects of a source, H and W
height and width of a picture, E channels, h and w height and width of the U-Net's narrowest maps.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from cocktail.audio.stft import FrontEnd
from cocktail.config.mixing import Mixing
from cocktail.config.model import ParameterGroup, Start
from cocktail.layers.attention_unet import AttentionUNet
from cocktail.layers.encoders import ImageNetScale
from cocktail.layers.mask_head import MaskHead
from cocktail.layers.masking import MaskingConfig, separation_by_masks
from cocktail.layers.resnet import ResNet18, stride_of
from cocktail.layers.spectrogram import log_spectrogram
from cocktail.numerics.precision import at_least_float32
from cocktail.types import Separation, require

NOTHING = -1e4
"""Logit of the mask of no object, by which it is 0."""


@dataclass(frozen=True, kw_only=True)
class MaskBasesConfig(MaskingConfig):
    """The settings of a separator whose masks are sums of bases."""

    sees: ClassVar[bool] = True
    packages: ClassVar[tuple[str, ...]] = ("torchvision",)

    num_bases: int = 32
    """Mask bases J."""
    visual_width: int = 1024
    """Visual features of each place."""
    coef_width: int = 512
    """Channels of the coefficient generator, which the paper leaves open; its second convolution has a quarter."""
    coef_act: Literal["none", "tanh"] = "none"
    """Behind the coefficients: nothing, as the paper names nothing; or tanh, as in YOLACT, which they come from."""
    dilate: bool = False
    """Leave out the stride of the ResNet-18's last stage: 14 x 14 places in place of 7 x 7, for four times its work.
    The paper names neither."""
    resnet_width: int = 64
    """Channels of the ResNet-18's first stage; torchvision's weights have 64."""
    visual_stages: Literal[2, 3, 4] = 4
    """Stages of the ResNet-18: of four a place is 32 pixels wide, and a picture of 224 pixels has 7 x 7."""
    initial_weights: str = "auto"
    """Weights that the ResNet-18 starts from: file or URI of torchvision's; `auto` takes ImageNet's where torchvision,
    or an earlier run of the same output, keeps them, and fails where neither does; `none` are random ones. It learns at
    a tenth of the rate of all else, 1e-5 and 1e-4, as Co-Separation's does, since the paper names no rate; random
    weights at the whole of it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("num_bases", "visual_width", "resnet_width"):
            require(getattr(self, name) >= 1, f"{name} must be at least 1, not {getattr(self, name)}")
        require(self.coef_width >= 4, f"coef_width must be at least 4, not {self.coef_width}")

    @property
    def stride(self) -> int:
        """Pixels from a place to the next."""
        return stride_of(self.visual_stages, self.dilate)

    def unet(self, in_channels: int = 1) -> AttentionUNet:
        """The U-Net of these settings, freshly initialised."""
        return AttentionUNet(self.unet_width, self.unet_depth, self.conv_init_std, in_channels)

    def require_test_mixing(self, mixing: Mixing) -> None:
        """Raise UsageError for mixtures without pictures, or of another size. Sources may be of any classes: estimates
        are in the order of the pictures."""
        super().require_test_mixing(mixing)
        require(
            mixing.pictures_per_source >= 1,
            "this model finds a source by its picture, and there is none: set --mixing.pictures-per-source 1",
        )
        require(
            mixing.shown_sources == "all",
            f"this model finds a source by its picture alone: leave shown_sources at all, not {mixing.shown_sources}",
        )
        require(
            mixing.picture_side % self.stride == 0,
            f"--mixing.picture-side {mixing.picture_side} must be a multiple of {self.stride} pixels",
        )

    def start(self) -> Start:
        """ImageNet's weights, of the ResNet-18."""
        return Start(setting="initial_weights", chosen=self.initial_weights, modules=("visual_encoder.resnet",))

    def parameter_groups(self, model: nn.Module) -> Sequence[ParameterGroup]:
        """The ResNet-18, which may learn more slowly, and all else."""
        resnet = tuple(model.get_submodule("visual_encoder.resnet").parameters())
        slow = {id(parameter) for parameter in resnet}
        others = tuple(parameter for parameter in model.parameters() if id(parameter) not in slow)
        seeing = ParameterGroup(parameters=resnet, rate_factor=self.start().rate_factor)
        return seeing, ParameterGroup(parameters=others)


@dataclass(frozen=True, kw_only=True)
class Objects:
    """O objects that sound, each of a class that a source of a mixture has."""

    mixtures: Tensor
    """int64 [O]."""
    sources: Tensor
    """int64 [O]: the source of its mixture."""
    slots: Tensor
    """int64 [O], in 0 .. S - 1: its place among the objects of its source."""
    class_ids: Tensor
    """int64 [O]."""
    there: Tensor
    """bool [B, N, S]: which places have an object."""

    @classmethod
    def of(cls, labels: Tensor) -> Objects:
        """One for each class that a source has, by labels bool [B, N, C]."""
        mixtures, sources, class_ids = labels.nonzero(as_tuple=True)
        counts = labels.sum(dim=2)
        room = torch.arange(max(int(counts.max()), 1), device=labels.device)
        return cls(
            mixtures=mixtures,
            sources=sources,
            slots=labels.cumsum(dim=2)[mixtures, sources, class_ids] - 1,
            class_ids=class_ids,
            there=room < counts[..., None],
        )


def logit_of_any(logits: Tensor) -> Tensor:
    """The logit [B, N, R, M] of the probability that any of independent events is, by their logits [B, N, S, R, M].

    The odds of two are (1 + a) (1 + b) - 1 = a + b + a b, a and b being their odds.
    """
    return functools.reduce(lambda a, b: torch.stack([a, b, a + b]).logsumexp(dim=0), logits.unbind(dim=2))


class PlaceEncoder(nn.Module):
    """Features V_f [L, Q, D] of each place of pictures uint8 [L, P, H, W, 3], picture by picture and row by row."""

    def __init__(self, config: MaskBasesConfig) -> None:
        super().__init__()
        self.scale = ImageNetScale()
        self.resnet = ResNet18(width=config.resnet_width, stages=config.visual_stages, dilated=config.dilate)
        self.project = nn.Sequential(
            nn.Conv2d(self.resnet.out_channels, config.visual_width, 3, padding=1, bias=False),
            nn.BatchNorm2d(config.visual_width),
            nn.ReLU(),
        )

    def forward(self, pictures: Tensor) -> Tensor:
        images = self.scale(pictures.flatten(0, 1), self.resnet.conv1.weight.dtype)
        features = self.project(self.resnet(images)).flatten(2).transpose(1, 2)
        return features.unflatten(0, pictures.shape[:2]).flatten(1, 2)

    def of_sources(self, pictures: Tensor, present: Tensor) -> Tensor:
        """V_f [B, N, Q, D] of pictures uint8 [B, N, P, H, W, 3] of sources. Those of sources that are not `present` are
        the first's: black pictures would count in BatchNorm's statistics."""
        shown = torch.where(present[:, :, None, None, None, None], pictures, pictures[:, :1])
        return self(shown.flatten(0, 1)).unflatten(0, pictures.shape[:2])


class CoefficientGenerator(nn.Module):
    """Coefficients M [O, J] of objects with vectors [O, D] in mixtures whose narrowest maps are [O, E, h, w]: the
    vector beside them in each place, convolutions 3 x 3 and 1 x 1, the mean over places, and a linear layer."""

    def __init__(self, channels: int, config: MaskBasesConfig) -> None:
        super().__init__()
        inner = config.coef_width // 4
        self.layers = nn.Sequential(
            nn.Conv2d(config.visual_width + channels, config.coef_width, 3, padding=1, bias=False),
            nn.BatchNorm2d(config.coef_width),
            nn.ReLU(),
            nn.Conv2d(config.coef_width, inner, 1, bias=False),
            nn.BatchNorm2d(inner),
            nn.ReLU(),
        )
        self.linear = nn.Linear(inner, config.num_bases)
        self.act = nn.Tanh() if config.coef_act == "tanh" else nn.Identity()

    def forward(self, vectors: Tensor, narrowest: Tensor) -> Tensor:
        tiled = vectors[..., None, None].expand(-1, -1, *narrowest.shape[2:])
        features = self.layers(torch.cat([tiled.to(narrowest.dtype), narrowest], dim=1))
        return self.act(self.linear(features.mean(dim=(2, 3))))


class MaskBases(nn.Module):
    """A network that makes masks of objects by vectors of what is seen of them. A model adds what finds these vectors,
    its loss, and its answers."""

    def __init__(self, config: MaskBasesConfig) -> None:
        super().__init__()
        self.config = config
        self.front_end = FrontEnd(config.front_end)
        self.visual_encoder = PlaceEncoder(config)
        self.unet = config.unet()
        self.generator = CoefficientGenerator(8 * config.unet_width, config)
        self.mask_head = MaskHead(self.unet.out_channels, config.num_bases, config.conv_init_std, affine=False)
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def mask_logits(self, magnitude: Tensor, vectors: Tensor, objects: Objects) -> tuple[Tensor, Tensor]:
        """Logits [B, N, S, R, M] of the masks of objects with vectors [O, D] in log-frequency magnitudes [B, 1, R, M],
        NOTHING where there is none, and coefficients [B, N, S, J] of the bases, zeros where there is none.

        The U-Net hears each mixture once, and its bases are never built: see `MaskHead`.
        """
        spectrogram = log_spectrogram(magnitude, self.config.input_norm)
        levels = self.unet.levels(spectrogram.contiguous(memory_format=torch.channels_last))
        chosen = self.generator(vectors, levels[-1][objects.mixtures])
        coefficients = chosen.new_zeros(*objects.there.shape, chosen.shape[-1])
        coefficients = coefficients.index_put((objects.mixtures, objects.sources, objects.slots), chosen)
        logits = at_least_float32(self.mask_head(self.unet.up_from(levels), coefficients.flatten(1, 2)))
        logits = logits.unflatten(1, objects.there.shape[1:])
        return logits.where(objects.there[..., None, None], NOTHING), coefficients

    def masks(self, logits: Tensor) -> Tensor:
        """Masks [B, N, R, M] in [0, 1] of sources, by the logits [B, N, S, R, M] of their objects: shares add up, and
        of binary masks one suffices."""
        if self.config.masks == "binary":
            return logit_of_any(logits).sigmoid()
        return logits.sigmoid().sum(dim=2).clamp(max=1.0)

    def separation(
        self,
        mixture: Tensor,
        vectors: Tensor,
        objects: Objects,
        class_ids: Tensor,
        intermediates: Mapping[str, Tensor],
        in_order: bool,
    ) -> Separation:
        """The answer that objects with vectors [O, D] give for sources, of classes [B, N], in mixtures [B, T]."""
        transform = self.front_end.stft(mixture)
        logits, coefficients = self.mask_logits(self.front_end.warp(transform.abs())[:, None], vectors, objects)
        masks, looked_at = self.masks(logits), {"source_vectors": coefficients.sum(dim=2), **intermediates}
        return separation_by_masks(
            self.config, self.front_end, transform, masks, class_ids, looked_at, in_order=in_order
        )
