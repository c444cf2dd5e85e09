"""Tokens made of the patches of a spectrogram.

Shape letters: B batch, R rows, M frames in time, P patches, D width.
"""

from __future__ import annotations

from typing import Literal

from torch import nn

PatchEmbeddingName = Literal["linear", "convolutions"]
_FEWEST_CHANNELS = 16


def patch_embedding(kind: PatchEmbeddingName, width: int, patch_size: int) -> nn.Module:
    """A network from [B, 1, R, M] to tokens [B, D, R / patch_size, M / patch_size].

    A linear map of each patch (Dosovitskiy et al., ICLR 2021), or convolutions of stride 2 that halve rows and frames
    until a place is left of each patch (Xiao et al., "Early Convolutions Help Transformers See Better", NeurIPS 2021);
    for the latter `patch_size` is a power of two.
    """
    if kind == "linear":
        return nn.Conv2d(1, width, patch_size, stride=patch_size)
    halvings = patch_size.bit_length() - 1
    widths = [1, *(max(width >> (halvings - 1 - level), _FEWEST_CHANNELS) for level in range(halvings))]
    levels = [
        nn.Sequential(
            nn.Conv2d(widths[level], widths[level + 1], 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(widths[level + 1]),
            nn.ReLU(),
        )
        for level in range(halvings)
    ]
    return nn.Sequential(*levels, nn.Conv2d(widths[-1], width, 1))
