"""Separation by ideal masks: the ceilings of any mask on a grid.

Shape letters: B batch, N sources, T samples.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from cocktail.audio.masks import ideal_binary_mask, ideal_ratio_mask
from cocktail.audio.stft import FrontEnd, FrontEndConfig
from cocktail.types import NO_CLASS, Separation

IDEAL_BINARY_MASK, IDEAL_RATIO_MASK = "ideal binary mask", "ideal ratio mask"


@runtime_checkable
class OnGrid(Protocol):
    """A model with a grid of its own, which its `front_end` makes."""

    front_end: FrontEnd


def grid_of(model: Any, device: torch.device) -> FrontEnd:
    """The model's own front end; of a model without one the common log-frequency grid, on a device."""
    return model.front_end if isinstance(model, OnGrid) else FrontEnd(FrontEndConfig()).to(device)


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
