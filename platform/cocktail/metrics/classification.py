"""Precision, recall and F1 from counts, which add up over batches and workers. Higher is better.

Shape letters: C classes.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor


class PrecisionRecallF1(NamedTuple):
    """Precision, recall and F1, each in [0, 1]."""

    precision: float
    recall: float
    f1: float


def confusion_counts(predicted: Tensor, truth: Tensor) -> Tensor:
    """True positives, false positives and false negatives of each class, int64 [C, 3], of bool [..., C] each.

    Summed over all axes but the last, so counts of batches can be added. Raises ValueError if the two are not bool, or
    not of one shape.
    """
    _check(predicted, truth)
    cases = torch.stack([predicted & truth, predicted & ~truth, ~predicted & truth], dim=-1)
    return cases.reshape(-1, *cases.shape[-2:]).sum(dim=0)


def token_counts(logits: Tensor) -> Tensor:
    """The `confusion_counts` [C, 3] of C class tokens, each taken for the class of its row's highest logit [C, C].

    Row i is what the classifier makes of token i, whose class is i. Raises ValueError if the logits are not square.
    """
    if logits.ndim != 2 or logits.shape[0] != logits.shape[1]:
        raise ValueError(f"logits are {tuple(logits.shape)}, not one row of C for each of C tokens")
    classes = torch.arange(len(logits), device=logits.device)
    return confusion_counts(logits.argmax(dim=1, keepdim=True) == classes, classes[:, None] == classes)


def precision_recall_f1(counts: Tensor, average: Literal["micro", "macro"]) -> PrecisionRecallF1:
    """Precision, recall and F1 of counts [C, 3] as from `confusion_counts`; a ratio of zero to zero is 0.

    "micro" adds the counts of all classes first; "macro" is the mean of each over all C classes, those that never
    occur among them, so that its F1 is the mean of the classes' F1. As scikit-learn with `zero_division=0`.
    """
    counts = counts.double()
    if average == "micro":
        counts = counts.sum(dim=0, keepdim=True)
    hits, false_alarms, misses = counts.unbind(dim=1)
    ratios = [_ratio(hits, hits + false_alarms), _ratio(hits, hits + misses)]
    ratios.append(_ratio(2 * hits, 2 * hits + false_alarms + misses))
    return PrecisionRecallF1(*(float(ratio.mean()) for ratio in ratios))


def entry_accuracy(predicted: Tensor, truth: Tensor) -> float:
    """The share of equal entries, in [0, 1], of bool tensors of one shape (items by classes in the tables).

    All-absent predictions score high where classes are rare: compare with that. Raises ValueError as
    `confusion_counts` does, or if there are no entries.
    """
    _check(predicted, truth)
    if truth.numel() == 0:
        raise ValueError("there are no entries to score")
    return float((predicted == truth).double().mean())


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    return part / whole.clamp(min=1)  # counts: below one is zero, and so is its part


def _check(predicted: Tensor, truth: Tensor) -> None:
    if predicted.dtype != torch.bool or truth.dtype != torch.bool:
        raise ValueError(f"predictions are {predicted.dtype} and truth {truth.dtype}: compare with a threshold first")
    if predicted.shape != truth.shape:
        raise ValueError(f"predictions are {tuple(predicted.shape)}, but truth is {tuple(truth.shape)}")
