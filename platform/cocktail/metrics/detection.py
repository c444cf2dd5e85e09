"""How well confidence tells items that show what sounds from those that do not: AP and max-F1 of SLAVC.

Mo and Morgado, "A Closer Look at Weakly-Supervised Audio-Visual Source Localization" (NeurIPS 2022). An item is found
where a system's confidence reaches a threshold. Found items are true positives if they show what sounds and the map has
it in the right place, false positives if not; items that show it and are not found are false negatives. So precision is
TP / (TP + FP) and recall TP / (TP + FN), and an item that is found in a wrong place lowers the first alone: at the
lowest threshold nothing is missed, and recall is 1.

All scores are in [0, 1], higher is better. Shape letters: M items, T distinct confidences.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cocktail.metrics.intervals import ratio_values


@dataclass(frozen=True, kw_only=True)
class Detection:
    """Scores of M items, with values whose means they are and that vary as they do, for intervals of means."""

    ap: float
    """The area below precision over recall, from recall 0 on: each distinct confidence is a threshold, and precision
    the best that is reached at that recall or a higher one."""
    ap_values: np.ndarray
    """float64 [M]: `ap` made linear in the items, each by what it would change if it counted a little more."""
    max_f1: float
    """The highest of 2 P R / (P + R) over the thresholds."""
    f1_values: np.ndarray
    """float64 [M]: the ratio at that threshold, made linear (`cocktail.metrics.intervals.ratio_values`)."""


def detection(confidence: np.ndarray, located: np.ndarray, shows: np.ndarray) -> Detection:
    """Scores by confidences [M], of items that show what sounds as bool [M] says, in the right place where `located`.

    Where nothing is located both scores are 0. Raises ValueError unless there are items, all with a confidence.
    """
    if not len(confidence) or not np.isfinite(confidence).all():
        raise ValueError(f"{len(confidence)} items, not all with a finite confidence: leave those without one out")
    hits = located & shows
    _, step = np.unique(-confidence, return_inverse=True)
    weights = torch.ones(len(confidence), dtype=torch.float64, requires_grad=True)
    ap = _average_precision(weights, *(torch.from_numpy(each) for each in (step, hits, shows)))
    (slopes,) = torch.autograd.grad(ap, weights)
    ap = float(ap.detach())
    true, found, missed = (np.cumsum(np.bincount(step, each)) for each in (hits, np.ones(len(step)), shows))
    f1 = 2 * true / (true + found + shows.sum() - missed)
    best = int(f1.argmax())
    is_found = step <= best
    parts = 2.0 * (hits & is_found)
    return Detection(
        ap=ap,
        ap_values=ap + len(step) * slopes.numpy(),
        max_f1=float(f1[best]),
        f1_values=ratio_values(parts, parts / 2 + is_found + (shows & ~is_found)),
    )


def _average_precision(weights: Tensor, step: Tensor, hits: Tensor, shows: Tensor) -> Tensor:
    """AP of items that count by their weights [M], found at steps [M] that are counted from the highest confidence."""

    def up_to(counted: Tensor) -> Tensor:
        """What has been found at each step [T]."""
        return weights.new_zeros(int(step.max()) + 1).index_add(0, step, weights * counted).cumsum(dim=0)

    true, found, seen = up_to(hits), up_to(torch.ones_like(hits)), up_to(shows)
    precision = true / found
    best = precision.flip(0).cummax(dim=0).values.flip(0)
    wanted = true + seen[-1] - seen
    recall = true / torch.where(wanted > 0, wanted, 1.0)
    return (recall.diff(prepend=recall.new_zeros(1)) * best).sum()
