"""A 3x3 convolution of an upsampled picture, with channels mixed before the upsample.

Bilinear upsampling by two acts on rows and columns, a kernel's taps mix channels and shift. Both are linear and touch
different axes, so channels are mixed first, at a quarter of the pixels: nine one-by-one products. What is left
of a tap, upsample and shift, are two small matrices, one a side, and products with them sum the taps.

Shape letters: B batch, D channels in, E channels out, H W picture.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor
from torch.nn import functional as F

SMALLEST_SIDE = 16
"""Side below which a plain convolution is as fast (measured on CPUs, tests/benchmarks/train_step.py)."""


def upsample_conv(x: Tensor, weight: Tensor) -> Tensor:
    """The convolution [B, E, 2H, 2W] of x [B, D, H, W], upsampled with aligned corners, with a kernel [E, D, 3, 3].

    Equals `conv2d(interpolate(x), weight, padding=1)` but for rounding, and so do gradients. The fast form is for CPUs
    in full precision; on GPUs and under autocast it is unmeasured, or rounds the upsample, and the plain one runs.
    """
    if x.device.type != "cpu" or torch.is_autocast_enabled("cpu") or min(x.shape[2:]) < SMALLEST_SIDE:
        return plain_upsample_conv(x, weight)
    return mixed_upsample_conv(x, weight)


def plain_upsample_conv(x: Tensor, weight: Tensor) -> Tensor:
    """The same convolution, as one writes it."""
    return F.conv2d(F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True), weight, padding=1)


def mixed_upsample_conv(x: Tensor, weight: Tensor) -> Tensor:
    """The same convolution, channels first."""
    (B, D, H, W), E = x.shape, weight.shape[0]
    rows, columns = shifted_upsamples(H, x.dtype, x.device), shifted_upsamples(W, x.dtype, x.device)
    kernels = weight.permute(3, 0, 2, 1).reshape(9 * E, D)  # by column of the kernel, E, row
    products = torch.matmul(kernels, x.flatten(2)).view(B, 3, E * 3 * H, W)
    wide = torch.matmul(products[:, 0], columns[0].mT)
    for tap in (1, 2):
        wide = torch.baddbmm(wide, products[:, tap], columns[tap].mT.expand(B, -1, -1))
    by_row = rows.transpose(0, 1).reshape(2 * H, 3 * H)
    return torch.matmul(by_row, wide.view(B, E, 3 * H, 2 * W))


@functools.lru_cache(maxsize=32)
def shifted_upsamples(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Matrices [3, 2 S, S] that interpolate S samples to 2 S, as each tap of a padded kernel of three sees them."""
    with torch.inference_mode(False), torch.no_grad():
        identity = torch.eye(size, dtype=torch.float64)[None]
        upsample = F.interpolate(identity, size=2 * size, mode="linear", align_corners=True)[0].T
        padded = F.pad(upsample, (0, 0, 1, 1))
        return torch.stack([padded[tap : tap + 2 * size] for tap in range(3)]).to(dtype).to(device)
