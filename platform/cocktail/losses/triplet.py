"""The triplet loss between masks: a source's mask by one branch is to be nearer to the truth than the other sources'
masks by another branch are, by a margin (AVSA-Sep, Su et al., section 3.3).

Shape letters: B batch, N sources, R rows, M frames.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Distance = Literal["rms", "l2"]
"""Root of the mean, or of the sum, of squared differences over all bins."""
TripletReduction = Literal["mean", "sum", "nearest"]
"""Mean or sum over the other sources of a mixture, or the nearest of them alone."""
_LEAST_SQUARE = 1e-12
"""Mean square of a difference that is taken to be at least there: the root has no gradient at 0."""


def triplet_mask_loss(
    truth: Tensor,
    positives: Tensor,
    negatives: Tensor,
    present: Tensor,
    others: Tensor,
    *,
    margin: float,
    distance: Distance,
    reduction: TripletReduction,
) -> Tensor:
    """Losses [B, N] of each source i: max(0, d(truth_i, positive_i) - d(truth_i, negative_j) + margin), reduced over
    the other sources j != i of its mixture.

    Masks are [B, N, R, M] in [0, 1]. `present`, bool [B, N], are the sources that have a positive, `others` those that
    have a negative. A source without either has no loss.
    """
    to_positives = _distance(truth, positives, distance)
    to_negatives = torch.stack([_distance(truth, each, distance) for each in negatives.split(1, dim=1)], dim=2)
    apart = ~torch.eye(truth.shape[1], dtype=torch.bool, device=truth.device)
    counted = present[:, :, None] & others[:, None] & apart
    losses = (to_positives[..., None] - to_negatives + margin).clamp(min=0) * counted
    if reduction == "nearest":
        return losses.amax(dim=2)
    total = losses.sum(dim=2)
    return total if reduction == "sum" else total / counted.sum(dim=2).clamp(min=1)


def _distance(masks: Tensor, others: Tensor, distance: Distance) -> Tensor:
    """[B, N], of masks [B, N, R, M]."""
    mean_square = (masks - others).square().mean(dim=(2, 3)).clamp(min=_LEAST_SQUARE)
    size = 1 if distance == "rms" else masks.shape[2] * masks.shape[3]
    return (mean_square * size).sqrt()
