"""Separation by ideal masks: what one who knows the references does with a mask on a grid.

None of them is a bound. The phase-sensitive mask comes nearest to the best that a mask in [0, 1] can do.

Shape letters: B batch, N sources, T samples.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from cocktail.audio.masks import (
    ideal_binary_mask,
    ideal_phase_sensitive_mask,
    ideal_ratio_mask,
    ideal_wiener_mask,
)
from cocktail.audio.stft import FrontEnd, FrontEndConfig, ShortTimeTransform
from cocktail.types import NO_CLASS, Separation

IDEAL_BINARY_MASK, IDEAL_RATIO_MASK = "ideal binary mask", "ideal ratio mask"
"""Those that models here are taught."""
IDEAL_WIENER_MASK, IDEAL_PHASE_SENSITIVE_MASK = "ideal Wiener mask", "ideal phase-sensitive mask"


def grid_of(model: Any, device: torch.device) -> ShortTimeTransform:
    """The `front_end` of a model that has a grid of its own; of others the common log-frequency grid, on a device."""
    own = getattr(model, "front_end", None)
    return own if isinstance(own, ShortTimeTransform) else FrontEnd(FrontEndConfig()).to(device)


@torch.no_grad()
def ideal_separations(front_end: ShortTimeTransform, mixture: Tensor, references: Tensor) -> dict[str, Separation]:
    """Separation of mixtures [B, T] by each ideal mask of references [B, N, T] on a grid, by its name.

    The phase-sensitive mask of a log-frequency row is made of the products and powers that are read there, since
    phases of neighbouring bins must not be averaged.
    """
    transform, of_sources = front_end.stft(mixture), front_end.stft(references)
    magnitude, sources = front_end.warp(transform.abs())[:, None], front_end.warp(of_sources.abs())
    products = front_end.warp((of_sources * transform[:, None].conj()).real)
    binary = ideal_binary_mask(sources, magnitude)
    soft = {
        IDEAL_RATIO_MASK: ideal_ratio_mask(sources, magnitude),
        IDEAL_WIENER_MASK: ideal_wiener_mask(sources),
        IDEAL_PHASE_SENSITIVE_MASK: ideal_phase_sensitive_mask(
            products, front_end.warp(transform.abs().square())[:, None]
        ),
    }
    unnamed = torch.full(references.shape[:2], NO_CLASS, device=references.device)
    return {
        name: Separation(estimates=estimates, masks=masks, class_ids=unnamed)
        for name, estimates, masks in (
            (IDEAL_BINARY_MASK, front_end.apply_binary_mask(transform, binary), binary),
            *((name, front_end.apply_soft_mask(transform, masks), masks) for name, masks in soft.items()),
        )
    }
