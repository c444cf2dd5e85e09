"""The U-Net of Sound of Pixels, without its last convolution.

All that follows its last ReLU is linear, so the last upsample and convolution live in
`cocktail.layers.mask_head`, where they are folded into the inner product with the source vectors.

Shape letters: B batch, H W picture, G base width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cocktail.layers.upsampling import upsample_conv


class UNet(nn.Module):
    """`depth` halvings and `depth - 1` doublings: [B, in_channels, H, W] -> [B, 2G, H/2, W/2], after a ReLU.

    Down: LeakyReLU 0.2 (not before the first), convolution 4x4 stride 2, BatchNorm (not on the first and
    the last). Up: ReLU, bilinear upsample with aligned corners, convolution 3x3, BatchNorm. Each level's
    input is concatenated with its output. H and W must be multiples of 2^depth. At the start convolutions are
    N(0, conv_init_std) and BatchNorm weights N(1, 0.02).
    """

    def __init__(self, width: int = 64, depth: int = 7, conv_init_std: float = 0.001, in_channels: int = 1) -> None:
        super().__init__()
        if depth < 5:
            raise ValueError(f"the U-Net needs a depth of at least 5 for its four widths, not {depth}")
        self.depth = depth
        self.out_channels = 2 * width
        widths = [width * min(2**level, 8) for level in range(depth)]
        self.upsample_conv = upsample_conv
        self.input_norm = nn.BatchNorm2d(in_channels)
        self.down = nn.ModuleList()
        self.up = nn.ModuleList()
        for level in range(depth):
            before = widths[level - 1] if level else in_channels
            normed = 0 < level < depth - 1
            self.down.append(
                nn.Sequential(
                    nn.Conv2d(before, widths[level], 4, stride=2, padding=1, bias=False),
                    nn.BatchNorm2d(widths[level]) if normed else nn.Identity(),
                )
            )
        for level in range(depth - 1, 0, -1):
            inner = widths[level] * (1 if level == depth - 1 else 2)
            self.up.append(
                nn.Sequential(
                    nn.Conv2d(inner, widths[level - 1], 3, padding=1, bias=False),
                    nn.BatchNorm2d(widths[level - 1]),
                )
            )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, 0.0, conv_init_std)
            elif isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.weight, 1.0, 0.02)

    def forward(self, spectrogram: Tensor) -> Tensor:
        return self.up_from(self.levels(spectrogram))

    def levels(self, spectrogram: Tensor) -> list[Tensor]:
        """What each halving gives of spectrograms [B, in_channels, H, W], before any activation, the narrowest last."""
        x = self.input_norm(spectrogram)
        levels: list[Tensor] = []
        for level, block in enumerate(self.down):
            x = block(F.leaky_relu(x, 0.2) if level else x)
            levels.append(x)
        return levels

    def up_from(self, levels: Sequence[Tensor]) -> Tensor:
        """Features of the levels, as `forward` gives them."""
        x = levels[-1]
        for place, (block, level) in enumerate(zip(self.up, levels[-2::-1], strict=True)):
            convolution, norm = block.children()
            assert isinstance(convolution, nn.Conv2d)
            beside = self.skip(place, level, x)
            x = torch.cat([beside, norm(self.upsample_conv(F.relu(x), convolution.weight))], dim=1)
        return F.relu(x)

    def skip(self, place: int, level: Tensor, below: Tensor) -> Tensor:
        """What the doubling at a place, counted from the bottom, reads of the level beside it: all of it. `below` is
        what comes up, before its activation."""
        return level
