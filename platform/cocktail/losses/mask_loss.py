"""Losses of masks: ideal masks of the references as targets, and the distance of the predicted ones from them.

Magnitudes and masks are on one grid. Shape letters: B batch, N sources, R rows, M frames.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from cocktail.audio.masks import MaskKind, ideal_binary_mask, ideal_ratio_mask

MaskLoss = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""A loss [B, N] of mask logits [B, N, R, M], targets and weights of bins, as `mask_loss`."""


def ideal_masks(sources: Tensor, mixture: Tensor, kind: MaskKind) -> Tensor:
    """The masks [B, N, R, M] to learn, of magnitudes [B, N, R, M] of sources and [B, 1, R, M] of their mixture."""
    return ideal_binary_mask(sources, mixture) if kind == "binary" else ideal_ratio_mask(sources, mixture)


def loudness_weights(mixture: Tensor) -> Tensor:
    """Weights of bins by the mixture's magnitude there, clamp(ln(1 + |W|), 1e-3, 10), as Sound of Pixels has them."""
    return torch.log1p(mixture).clamp(1e-3, 10.0)


def mask_loss(logits: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """The cross-entropy [B, N] of mask logits [B, N, R, M] with targets in [0, 1], the mean over bins.

    Given `weights` [B, 1, R, M], bins are weighed by them; the mean still divides by the number of bins.
    """
    bins = F.binary_cross_entropy_with_logits(logits, targets, weight=weights, reduction="none")
    return bins.mean(dim=(2, 3))


def absolute_mask_loss(logits: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """The absolute difference [B, N] of masks, of which `logits` are given, from targets, as `mask_loss` averages it.

    Sound of Pixels teaches ratio masks by it.
    """
    bins = (logits.sigmoid() - targets).abs()
    return (bins if weights is None else weights * bins).mean(dim=(2, 3))


def mask_loss_of(kind: MaskKind) -> MaskLoss:
    """The loss that Sound of Pixels has for masks of a kind."""
    return mask_loss if kind == "binary" else absolute_mask_loss


def mean_over_sources(losses: Tensor, present: Tensor) -> Tensor:
    """The mean over mixtures of the means of losses [B, N] over each one's sources, bool [B, N], as Sound of Pixels has
    it. A mixture without any has no loss, and counts."""
    return ((losses * present).sum(dim=1) / present.sum(dim=1).clamp(min=1)).mean()


def pairwise_mask_loss(
    logits: Tensor, targets: Tensor, weights: Tensor | None = None, loss: MaskLoss = mask_loss
) -> Tensor:
    """A loss [B, N, N] of each mask with each target, masks along the second axis and targets along the third."""
    each = [loss(logits, target.expand_as(logits), weights) for target in targets.split(1, dim=1)]
    return torch.stack(each, dim=2)
