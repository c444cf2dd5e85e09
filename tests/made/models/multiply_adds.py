"""Multiply-adds of a forward pass by hand, of the layers that the papers' networks share, and how torch counts them.

A convolution has one for each weight at each place that it gives; the doublings of U-Nets are counted as they are
written, and as they run on GPUs, upsampled first. Sums, norms and activations are left out, by torch's counter too.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode

UNET_WIDTHS = (64, 128, 256, 512, 512, 512, 512)
"""Channels of the U-Net's levels at the papers' size."""
AREAS = tuple((128 >> level) ** 2 for level in range(7))
"""Places of its levels, of a spectrogram of 256 x 256."""


def counted(run: Callable[[], object]) -> int:
    """Multiply-adds of what runs on tensors without values: torch counts two operations for each."""
    with torch.no_grad(), torch.device("meta"), FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops() // 2


def of_unet(in_channels: int = 1) -> int:
    """Of the U-Net with seven halvings, 4 x 4, and six doublings, 3 x 3, without the maps."""
    down = itertools.pairwise((in_channels, *UNET_WIDTHS))
    halvings = sum(16 * before * after * area for (before, after), area in zip(down, AREAS, strict=True))
    below = (512, 1024, 1024, 1024, 512, 256)
    doublings = zip(below, UNET_WIDTHS[-2::-1], AREAS[-2::-1], strict=True)
    return halvings + sum(9 * before * after * area for before, after, area in doublings)


def of_resnet18(dilated: bool) -> int:
    """Of ResNet-18 without its classifier on a picture of 224 x 224; dilated, its last stage has as many places as the
    one before."""
    total = 64 * 3 * 7 * 7 * 112**2 + 4 * 9 * 64 * 64 * 56**2
    for width, side in ((128, 28), (256, 14), (512, 14 if dilated else 7)):
        half = width // 2
        total += (9 * half * width + 3 * 9 * width * width + half * width) * side**2
    return total


def of_maps(num_maps: int) -> int:
    """Of maps of 256 x 256 out of the U-Net's 128 channels, 3 x 3."""
    return 9 * 128 * num_maps * 256**2


def of_plain_masks(num_masks: int, num_maps: int = 32) -> int:
    """Of masks as papers write them: maps, and their inner products with vectors."""
    return of_maps(num_maps) + num_maps * num_masks * 256**2


def of_folded_masks(num_masks: int, num_maps: int = 32) -> int:
    """Of masks as they are made on GPUs: a kernel for each vector, its nine taps at 128 x 128, and one convolution that
    adds nine taps, each shifted by a kernel of nine, at 256 x 256."""
    return num_masks * (num_maps * 9 * 128 + 9 * 128 * 128**2 + 9 * 9 * 256**2)
