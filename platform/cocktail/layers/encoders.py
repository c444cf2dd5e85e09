"""Encoders that see and that hear: ResNet-18s into one space of unit vectors (AVGN section 3.1; EZ-VSL).

Shape letters: B batch, D width, P locations in a picture, Q vectors of a sound, F bins, M frames, H and W height and
width of a picture.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cocktail.layers.resnet import ResNet18
from cocktail.layers.transformer import initialize
from cocktail.numerics.precision import at_least_float32

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class ImageNetScale(nn.Module):
    """Images [B, 3, H, W] as networks that know ImageNet take them, of pictures uint8 [B, H, W, 3]."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", 255 * torch.tensor(IMAGENET_MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", 255 * torch.tensor(IMAGENET_STD)[:, None, None], persistent=False)

    def forward(self, pictures: Tensor, dtype: torch.dtype) -> Tensor:
        images = (pictures.permute(0, 3, 1, 2).to(dtype) - self.get_buffer("mean")) / self.get_buffer("std")
        return images.contiguous(memory_format=torch.channels_last)


class VisualEncoder(nn.Module):
    """Vectors f^v [B, P, D] of pictures uint8 [B, H, W, 3], row by row: P = H / 32 x W / 32 for four stages, and four
    times as many if the last is dilated. Of length one, or as they are.

    A model may put another `dropout` before the projection.
    """

    def __init__(
        self, width: int, resnet_width: int = 64, stages: int = 4, dilated: bool = False, unit_length: bool = True
    ) -> None:
        super().__init__()
        self.unit_length = unit_length
        self.scale = ImageNetScale()
        self.resnet = ResNet18(width=resnet_width, stages=stages, dilated=dilated)
        self.dropout: nn.Module = nn.Identity()
        self.project = nn.Conv2d(self.resnet.out_channels, width, kernel_size=1)

    def forward(self, pictures: Tensor) -> Tensor:
        cells = self.project(self.dropout(self.resnet(self.scale(pictures, self.project.weight.dtype))))
        vectors = cells.flatten(2).transpose(1, 2)
        return unit(vectors) if self.unit_length else at_least_float32(vectors)


class AudioEncoder(nn.Module):
    """Vectors f^a [B, Q, D] of log power spectra [B, 1, F, M]. Of length one, or as they are.

    `pooled`: one, by a maximum over all cells (Q = 1). `map`: one a cell, so that there is something to group. A model
    may put another `dropout` before the projection.
    """

    def __init__(
        self,
        width: int,
        tokens: Literal["pooled", "map"] = "pooled",
        resnet_width: int = 64,
        unit_length: bool = True,
    ) -> None:
        super().__init__()
        self.tokens = tokens
        self.unit_length = unit_length
        self.resnet = ResNet18(in_channels=1, width=resnet_width)
        self.dropout: nn.Module = nn.Identity()
        self.project = nn.Linear(self.resnet.out_channels, width).apply(initialize)

    def forward(self, spectra: Tensor) -> Tensor:
        cells = self.resnet(spectra.to(self.project.weight.dtype)).flatten(2)
        if self.tokens == "pooled":
            cells = cells.amax(dim=2, keepdim=True)
        vectors = self.project(self.dropout(cells.transpose(1, 2)))
        return unit(vectors) if self.unit_length else at_least_float32(vectors)


class VGGish(nn.Module):
    """Vectors [B, out_channels] of log spectrograms [B, 1, R, M]: the convolutions of VGGish (Hershey et al., "CNN
    Architectures for Large-Scale Audio Classification", ICASSP 2017), then the mean over all places.

    Differs from VGGish: there are no weights to start from, so BatchNorm scales what comes in; a mean stands for the
    layers behind the convolutions, so that spectrograms may have any size from 16 x 16 on.
    """

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.out_channels = 8 * width
        layers: list[nn.Module] = [nn.BatchNorm2d(1)]
        before = 1
        for channels, number in ((width, 1), (2 * width, 1), (4 * width, 2), (8 * width, 2)):
            for _ in range(number):
                convolution = nn.Conv2d(before, channels, kernel_size=3, padding=1)
                nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
                layers += [convolution, nn.ReLU()]
                before = channels
            layers.append(nn.MaxPool2d(kernel_size=2))
        self.layers = nn.Sequential(*layers)

    def forward(self, spectrograms: Tensor) -> Tensor:
        return self.layers(spectrograms).mean(dim=(2, 3))


def unit(vectors: Tensor) -> Tensor:
    """Vectors [..., D] of length one, in float32 at least."""
    return F.normalize(at_least_float32(vectors), dim=-1)
