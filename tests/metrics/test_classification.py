"""Counts and scores by hand and against scikit-learn."""

import pytest
import torch
from numpy.typing import ArrayLike
from sklearn.metrics import precision_recall_fscore_support
from torch import Tensor

from cocktail.metrics.classification import confusion_counts, entry_accuracy, precision_recall_f1, token_counts


def case(seed: int, items: int = 12, classes: int = 7) -> tuple[Tensor, Tensor]:
    """(predicted, truth): class 0 never occurs, class 1 is never predicted, class 2 neither."""
    generator = torch.Generator().manual_seed(seed)
    predicted, truth = torch.rand(2, items, classes, generator=generator) < 0.3
    truth[:, 0] = predicted[:, 1] = False
    predicted[:, 2] = truth[:, 2] = False
    return predicted, truth


def reference_scores(truth: ArrayLike, predicted: ArrayLike, average: str) -> tuple[float, float, float]:
    scores = precision_recall_fscore_support(
        truth,
        predicted,
        average=average,  # pyright: ignore[reportArgumentType]
        zero_division=0,  # pyright: ignore[reportArgumentType]
    )
    return scores[:3]  # pyright: ignore[reportReturnType]


def test_counts_by_hand():
    predicted = torch.tensor([[1, 0, 1], [0, 0, 0]], dtype=torch.bool)
    truth = torch.tensor([[1, 0, 0], [0, 1, 0]], dtype=torch.bool)
    counts = confusion_counts(predicted, truth)
    assert counts.tolist() == [[1, 0, 0], [0, 0, 1], [0, 1, 0]]
    assert counts.dtype == torch.int64
    assert precision_recall_f1(counts, "micro") == (0.5, 0.5, 0.5)
    assert precision_recall_f1(counts, "macro") == pytest.approx((1 / 3, 1 / 3, 1 / 3))


def test_macro_f1_is_the_mean_of_f1_not_the_f1_of_means():
    # Class 0: precision 1, recall 1/3, F1 1/2. Class 1: precision 1/3, recall 1, F1 1/2.
    scores = precision_recall_f1(torch.tensor([[1, 0, 2], [1, 2, 0]]), "macro")
    assert scores.precision == scores.recall == pytest.approx(2 / 3)
    assert scores.f1 == pytest.approx(0.5)


@pytest.mark.parametrize("average", ["micro", "macro"])
@pytest.mark.parametrize("seed", range(5))
def test_scores_are_scikit_learns_classes_without_any_item_among_them(average, seed):
    predicted, truth = case(seed)
    expected = reference_scores(truth.numpy(), predicted.numpy(), average)
    assert precision_recall_f1(confusion_counts(predicted, truth), average) == pytest.approx(expected)


def test_counts_of_batches_add_up():
    predicted, truth = case(0)
    parts = [confusion_counts(predicted[rows], truth[rows]) for rows in (slice(0, 5), slice(5, 12))]
    assert torch.equal(parts[0] + parts[1], confusion_counts(predicted, truth))
    nested = confusion_counts(predicted.reshape(3, 4, 7), truth.reshape(3, 4, 7))
    assert torch.equal(nested, confusion_counts(predicted, truth))
    assert confusion_counts(predicted[:0], truth[:0]).tolist() == [[0, 0, 0]] * 7


def test_tokens_are_scored_by_their_highest_logit():
    # Token 0 is taken for 0, token 1 for 0, token 2 for 2.
    logits = torch.tensor([[5.0, 1, 1], [3, -2, 0], [-3, -2, -1]])
    counts = token_counts(logits)
    assert counts.tolist() == [[1, 1, 0], [0, 0, 1], [1, 0, 0]]
    expected = reference_scores([0, 1, 2], [0, 0, 2], "macro")
    assert precision_recall_f1(counts, "macro") == pytest.approx(expected)
    with pytest.raises(ValueError, match=r"logits are \(2, 3\)"):
        token_counts(logits[:2])


def test_nothing_predicted_and_nothing_there_is_zero():
    for average in ("micro", "macro"):
        assert precision_recall_f1(torch.zeros(4, 3, dtype=torch.int64), average) == (0, 0, 0)


def test_entries_that_are_equal_count_and_absence_alone_gets_as_far():
    truth = torch.tensor([[1, 0, 0], [0, 1, 0]], dtype=torch.bool)
    predicted = torch.tensor([[1, 0, 1], [0, 0, 0]], dtype=torch.bool)
    assert entry_accuracy(predicted, truth) == pytest.approx(4 / 6)
    assert entry_accuracy(torch.zeros_like(truth), truth) == pytest.approx(4 / 6)


def test_what_cannot_be_compared_is_said():
    probabilities = torch.rand(2, 3)
    with pytest.raises(ValueError, match="compare with a threshold first"):
        confusion_counts(probabilities, probabilities > 0.5)
    with pytest.raises(ValueError, match=r"predictions are \(2, 3\), but truth is \(3,\)"):
        entry_accuracy(probabilities > 0.5, probabilities[0] > 0.5)
    with pytest.raises(ValueError, match="no entries"):
        entry_accuracy(probabilities[:0] > 0.5, probabilities[:0] > 0.5)
