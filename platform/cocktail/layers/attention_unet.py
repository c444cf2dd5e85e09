"""The U-Net of Sound of Pixels with a gate on each skip (Oktay et al., "Attention U-Net: Learning Where to Look for the
Pancreas", 2018), as the co-segmentation paper hears by it (section 3.2).

Shape letters: B batch, D channels, H W picture.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cocktail.layers.unet import UNet


class AttentionUNet(UNet):
    """`UNet`, of whose levels the doublings read what gates let through. It has six gates at a depth of seven: the last
    doubling has no skip. Gates start as torch starts convolutions."""

    def __init__(self, width: int = 64, depth: int = 7, conv_init_std: float = 0.001, in_channels: int = 1) -> None:
        super().__init__(width, depth, conv_init_std, in_channels)
        self.gates = nn.ModuleList()
        for block in self.up:
            convolution = next(block.children())
            assert isinstance(convolution, nn.Conv2d)
            self.gates.append(SkipGate(convolution.out_channels, convolution.in_channels))

    def skip(self, place: int, level: Tensor, below: Tensor) -> Tensor:
        """What a gate lets through of a level."""
        return self.gates[place](level, below)


class SkipGate(nn.Module):
    """psi x [B, D, 2H, 2W] of what lies beside, x, where psi = sigmoid(w relu(W_x x + up(W_g g))) is one map in (0, 1),
    and g [B, E, H, W] what comes from below.

    W_x, W_g and w are convolutions 1 x 1, the first two to half of D, each with a BatchNorm behind it, whose shift is
    the paper's b. W_g comes before the upsample, at a quarter of the places: it is affine in each, and interpolation,
    bilinear with aligned corners, keeps that. So answers are those of W_g behind it; in training the BatchNorm has the
    statistics of the smaller map.
    """

    def __init__(self, channels: int, channels_below: int) -> None:
        super().__init__()
        inner = max(channels // 2, 1)
        self.of_level = nn.Sequential(nn.Conv2d(channels, inner, 1, bias=False), nn.BatchNorm2d(inner))
        self.of_below = nn.Sequential(nn.Conv2d(channels_below, inner, 1, bias=False), nn.BatchNorm2d(inner))
        self.to_map = nn.Sequential(nn.Conv2d(inner, 1, 1, bias=False), nn.BatchNorm2d(1))

    def openness(self, level: Tensor, below: Tensor) -> Tensor:
        """psi [B, 1, 2H, 2W]."""
        raised = F.interpolate(self.of_below(below), size=level.shape[2:], mode="bilinear", align_corners=True)
        return torch.sigmoid(self.to_map(F.relu(self.of_level(level) + raised)))

    def forward(self, level: Tensor, below: Tensor) -> Tensor:
        return self.openness(level, below) * level
