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


def upsample_conv(x: Tensor, weight: Tensor) -> Tensor:
    """The convolution [B, E, 2H, 2W] of x [B, D, H, W], upsampled with aligned corners, with a kernel [E, D, 3, 3].

    Equals `conv2d(interpolate(x), weight, padding=1)` but for rounding, and so do gradients. The fast form is for CPUs
    in full precision; on GPUs and under autocast it is unmeasured, or rounds the upsample, and the plain one runs.
    """
    if x.device.type != "cpu" or torch.is_autocast_enabled("cpu") or not mixing_pays(len(weight), *x.shape[1:]):
        # The other form's results have channels first, in which a convolution is slower.
        return plain_upsample_conv(x.contiguous(memory_format=torch.channels_last), weight)
    return mixed_upsample_conv(x, weight)


def mixing_pays(E: int, D: int, H: int, W: int) -> bool:
    """Whether it takes less to mix D channels first.

    For each of E channels out and each pixel in, that saves 54 D multiplications, and upsampling D channels, which
    takes as long as some 400 D / E. Products with the small matrices cost 36 W + 24 H, of half the rate (measured on
    CPUs, tests/benchmarks/train_step.py).
    """
    return 54 * D + 400 * D / E > 2 * (36 * W + 24 * H)


def plain_upsample_conv(x: Tensor, weight: Tensor) -> Tensor:
    """The same convolution, as one writes it."""
    return F.conv2d(F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True), weight, padding=1)


def mixed_upsample_conv(x: Tensor, weight: Tensor) -> Tensor:
    """The same convolution, channels first."""
    (B, D, H, W), E = x.shape, weight.shape[0]
    kernels = weight.permute(0, 2, 3, 1).reshape(9 * E, D)
    return sum_taps(torch.matmul(kernels, x.flatten(2)).view(B, E, 3, 3, H, W))


def sum_taps(products: Tensor) -> Tensor:
    """The sum [B, E, 2H, 2W] of a kernel's taps [B, E, 3, 3, H, W], by its rows and columns: each is upsampled with
    aligned corners and shifted to its place, with zeros beyond the edges."""
    B, E, _, _, H, W = products.shape
    rows, columns = (shifted_upsamples(size, products.dtype, products.device) for size in (H, W))
    beside = products.transpose(3, 4).reshape(B, E * 3 * H, 3 * W)
    wide = beside @ columns.mT.reshape(3 * W, 2 * W)
    return rows.transpose(0, 1).reshape(2 * H, 3 * H) @ wide.view(B, E, 3 * H, 2 * W)


@functools.lru_cache(maxsize=32)
def shifted_upsamples(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Matrices [3, 2 S, S] that interpolate S samples to 2 S, as each tap of a padded kernel of three sees them."""
    with torch.inference_mode(False), torch.no_grad():
        identity = torch.eye(size, dtype=torch.float64)[None]
        upsample = F.interpolate(identity, size=2 * size, mode="linear", align_corners=True)[0].T
        padded = F.pad(upsample, (0, 0, 1, 1))
        return torch.stack([padded[tap : tap + 2 * size] for tap in range(3)]).to(dtype).to(device)
