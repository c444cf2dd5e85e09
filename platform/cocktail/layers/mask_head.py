"""Mask logits: the inner product of source vectors with K feature maps, without ever building the maps.

The U-Net ends in upsample (x2, bilinear), convolution 3x3 to K maps U_k, and z_i = sum_k s_k g_ik U_k + b.
All three are linear, so the products are summed over k first: N sources need 9 N one-by-one products at
half the resolution instead of K maps at full resolution. Same parameters, same values, same gradients as
the plain form; the tests hold it against that form.

Shape letters: B batch, N sources, K feature maps, D channels in, H W picture.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cocktail.numerics.precision import at_least_float32


class MaskHead(nn.Module):
    """Logits [B, N, 2H, 2W] from U-Net features [B, D, H, W] and source vectors [B, N, K] (SGN eq. 8, 10)."""

    def __init__(self, in_channels: int, num_maps: int, conv_init_std: float = 0.001) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_maps, in_channels, 3, 3))
        self.map_bias = nn.Parameter(torch.zeros(num_maps))
        self.scale = nn.Parameter(torch.ones(num_maps))
        self.bias = nn.Parameter(torch.zeros(()))
        nn.init.normal_(self.weight, 0.0, conv_init_std)

    def forward(self, features: Tensor, vectors: Tensor) -> Tensor:
        (B, D, H, W), N = features.shape, vectors.shape[1]
        scaled = vectors * self.scale
        taps = self.weight.permute(0, 2, 3, 1).flatten(1)  # K, 9 D
        kernels = (scaled @ taps).view(B, 9 * N, D)
        products = torch.bmm(kernels, features.flatten(2)).view(B, 9 * N, H, W)
        upsampled = F.interpolate(products, scale_factor=2, mode="bilinear", align_corners=True)
        padded = F.pad(upsampled, (1, 1, 1, 1)).view(B, N, 3, 3, 2 * H + 2, 2 * W + 2)
        # Nine taps are added up in float32 at least, as a convolution would, also under autocast.
        offset = at_least_float32(scaled @ self.map_bias) + self.bias
        logits = offset[:, :, None, None]
        for row in range(3):
            for column in range(3):
                logits = logits + padded[:, :, row, column, row : row + 2 * H, column : column + 2 * W]
        return logits
