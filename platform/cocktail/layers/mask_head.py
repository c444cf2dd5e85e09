"""Mask logits: the inner product of source vectors with K feature maps, without ever building the maps.

The U-Net ends in upsample (x2, bilinear), convolution 3x3 to K maps U_k, and z_i = sum_k s_k g_ik U_k + b.
All three are linear, so the products are summed over k first: N sources need 9 N one-by-one products at
half the resolution instead of K maps at full resolution. Same parameters, same values, same gradients as
the plain form; the tests hold it against that form. `MapHead` is the plain form for masks that nothing chooses.

Shape letters: B batch, N sources, K feature maps, D channels in, H W picture.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cocktail.layers.upsampling import sum_taps, upsample_conv
from cocktail.numerics.precision import at_least_float32


class MaskHead(nn.Module):
    """Logits [B, N, 2H, 2W] from U-Net features [B, D, H, W] and source vectors [B, N, K] (SGN eq. 8, 10).

    Without `affine` s is 1 and b is 0, and neither is learned: z_i = sum_k g_ik U_k (co-segmentation, eq. 4).
    """

    scale: Tensor
    bias: Tensor

    def __init__(self, in_channels: int, num_maps: int, conv_init_std: float = 0.001, affine: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_maps, in_channels, 3, 3))
        self.map_bias = nn.Parameter(torch.zeros(num_maps))
        for name, value in (("scale", torch.ones(num_maps)), ("bias", torch.zeros(()))):
            if affine:
                self.register_parameter(name, nn.Parameter(value))
            else:
                self.register_buffer(name, value, persistent=False)
        nn.init.normal_(self.weight, 0.0, conv_init_std)
        # Shifts each of nine taps to its place and adds them up.
        self.register_buffer("shifts", torch.eye(9).view(1, 9, 3, 3), persistent=False)

    def forward(self, features: Tensor, vectors: Tensor) -> Tensor:
        (B, D, H, W), N = features.shape, vectors.shape[1]
        scaled = vectors * self.scale
        kernels = (scaled @ self.weight.permute(0, 2, 3, 1).flatten(1)).view(B, 9 * N, D)  # of K, 9 D
        products = torch.bmm(kernels, features.flatten(2)).view(B, N, 3, 3, H, W)
        offset = at_least_float32(scaled @ self.map_bias) + self.bias
        # Nine taps are added up in float32 at least, as a convolution would, also under autocast.
        with torch.autocast(features.device.type, enabled=False):
            if features.device.type == "cpu":
                logits = sum_taps(at_least_float32(products))
            else:
                logits = self._shift_and_add(products)
        return logits + offset[:, :, None, None]

    def maps(self, features: Tensor) -> Tensor:
        """The maps U_k [B, K, 2H, 2W] themselves: where there are more vectors than maps, the plain form costs less."""
        return at_least_float32(upsample_conv(features, self.weight) + self.map_bias[:, None, None])

    def of_maps(self, maps: Tensor, vectors: Tensor) -> Tensor:
        """The logits [B, N, 2H, 2W] that `forward` gives, from what `maps` gives."""
        products = at_least_float32(torch.bmm((vectors * self.scale).to(maps.dtype), maps.flatten(2)))
        return products.unflatten(2, maps.shape[2:]) + self.bias

    def _shift_and_add(self, products: Tensor) -> Tensor:
        """`sum_taps` for GPUs, where products with small matrices are unmeasured.

        One convolution adds the taps: the gradient of nine slices would be nine pictures of zeros, filled and added.
        With precision tf32 cuDNN rounds each tap to 10 bits first, as it does the inputs of all convolutions: switched
        off here, it would still be on in the backward pass.
        """
        B, N, _, _, H, W = products.shape
        maps = products.view(B, 9 * N, H, W)
        upsampled = F.interpolate(maps, scale_factor=2, mode="bilinear", align_corners=True)
        taps = at_least_float32(upsampled).view(B * N, 9, 2 * H, 2 * W)
        return F.conv2d(taps, self.get_buffer("shifts").to(taps.dtype), padding=1).view(B, N, 2 * H, 2 * W)


class MapHead(nn.Module):
    """Logits [B, N, 2H, 2W] of so many masks from U-Net features [B, D, H, W]: the maps U_k themselves."""

    def __init__(self, in_channels: int, num_masks: int, conv_init_std: float = 0.001) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_masks, in_channels, 3, 3))
        self.bias = nn.Parameter(torch.zeros(num_masks))
        nn.init.normal_(self.weight, 0.0, conv_init_std)

    def forward(self, features: Tensor) -> Tensor:
        return at_least_float32(upsample_conv(features, self.weight)) + self.bias[:, None, None]
