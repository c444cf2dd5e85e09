"""The losses of class tokens and class vectors beside the task: which class a token is, and which classes are there
(SGN eq. 7 and 9; AVGN eq. 9).

Shape letters: C classes.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from cocktail.numerics.precision import at_least_float32

Reduction = Literal["mean", "sum"]
"""Mean or sum of the classes' losses; the papers print a sum, the authors' code takes means."""


def token_loss(logits: Tensor, reduction: Reduction = "mean") -> Tensor:
    """The cross-entropy of what a classifier makes of C class tokens, [C, C]; token i is of class i."""
    classes = torch.arange(len(logits), device=logits.device)
    return F.cross_entropy(at_least_float32(logits), classes) * _scale(logits, reduction)


def presence_loss(logits: Tensor, truth: Tensor, reduction: Reduction = "mean") -> Tensor:
    """The cross-entropy of presence logits [..., C] with which classes are there, bool [..., C].

    The mean over all axes but the last; of the last, the mean or the sum.
    """
    logits = at_least_float32(logits)
    return F.binary_cross_entropy_with_logits(logits, truth.to(logits.dtype)) * _scale(logits, reduction)


def presence_losses(logits: Tensor, truth: Tensor) -> Tensor:
    """The cross-entropies [..., C], none of them averaged, in float32 at least."""
    logits = at_least_float32(logits)
    return F.binary_cross_entropy_with_logits(logits, truth.to(logits.dtype), reduction="none")


def _scale(logits: Tensor, reduction: Reduction) -> int:
    return logits.shape[-1] if reduction == "sum" else 1
