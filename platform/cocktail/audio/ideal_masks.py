"""Separation by ideal masks: the ceilings of any mask on a grid.

Shape letters: B batch, N sources, T samples.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from cocktail.audio.masks import ideal_binary_mask, ideal_ratio_mask
from cocktail.audio.stft import FrontEnd, FrontEndConfig
from cocktail.types import NO_CLASS, Separation

IDEAL_BINARY_MASK, IDEAL_RATIO_MASK = "ideal binary mask", "ideal ratio mask"


def grid_of(model: Any, device: torch.device) -> FrontEnd:
    """The `front_end` of a model that has a grid of its own; of others the common log-frequency grid, on a device."""
    own = getattr(model, "front_end", None)
    return own if isinstance(own, FrontEnd) else FrontEnd(FrontEndConfig()).to(device)


@torch.no_grad()
def ideal_separations(front_end: FrontEnd, mixture: Tensor, references: Tensor) -> dict[str, Separation]:
    """Separation of mixtures [B, T] by the ideal masks of references [B, N, T] on a grid, binary and ratio, by name."""
    transform = front_end.stft(mixture)
    magnitude = front_end.warp(transform.abs())[:, None]
    sources = front_end.warp(front_end.stft(references).abs())
    binary, ratio = ideal_binary_mask(sources, magnitude), ideal_ratio_mask(sources, magnitude)
    unnamed = torch.full(references.shape[:2], NO_CLASS, device=references.device)
    return {
        name: Separation(estimates=estimates, masks=masks, class_ids=unnamed)
        for name, estimates, masks in (
            (IDEAL_BINARY_MASK, front_end.apply_binary_mask(transform, binary), binary),
            (IDEAL_RATIO_MASK, front_end.apply_soft_mask(transform, ratio), ratio),
        )
    }
