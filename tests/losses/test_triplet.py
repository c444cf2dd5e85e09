"""The triplet loss between masks, by hand."""

import pytest
import torch

from cocktail.losses.triplet import triplet_mask_loss
from tests.made.models.finite_differences import assert_gradients_are_differences

SETTINGS = {"margin": 0.1, "distance": "rms", "reduction": "mean"}
ALL = torch.ones(1, 2, dtype=torch.bool)


def flat(*values: float) -> torch.Tensor:
    """Masks [1, N, 4, 4], each of one value."""
    return torch.tensor(values)[None, :, None, None].expand(-1, -1, 4, 4).clone()


def test_it_is_zero_where_the_positive_is_exact_and_the_negative_a_margin_away():
    truth = flat(1.0, 0.0)
    exact, near = flat(1.0, 0.0), flat(0.05, 0.95)
    assert triplet_mask_loss(truth, exact, exact, ALL, ALL, **SETTINGS).tolist() == [[0, 0]]
    # Source 0: d(1, 1) = 0, and the other source's negative 0.95 is 0.05 away from 1: 0 - 0.05 + 0.1.
    losses = triplet_mask_loss(truth, exact, near, ALL, ALL, **SETTINGS)
    torch.testing.assert_close(losses, torch.tensor([[0.05, 0.05]]))


def test_it_is_the_margin_where_the_positive_is_the_negative():
    truth = torch.rand(1, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    same = truth.mean(dim=1, keepdim=True).expand(-1, 2, -1, -1)
    torch.testing.assert_close(triplet_mask_loss(truth, same, same, ALL, ALL, **SETTINGS), torch.full((1, 2), 0.1))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, (0.4 + 0.1) / 2),
        ({"reduction": "sum"}, 0.5),
        ({"reduction": "nearest"}, 0.4),
        ({"margin": 0.2}, (0.5 + 0.2) / 2),
        ({"distance": "l2"}, (1.3 + 0.1) / 2),  # distances of 16 bins are four times as large, the margin is not
    ],
)
def test_settings_do_what_they_say(changes, expected):
    truth, positive = flat(1.0, 0.0, 0.0), flat(0.5, 0.0, 0.0)
    negatives = flat(0.9, 0.8, 0.5)  # 0.2 and 0.5 from the truth of source 0, which is 0.5 from its positive
    present = torch.tensor([[True, False, False]])
    losses = triplet_mask_loss(truth, positive, negatives, present, present | ~present, **{**SETTINGS, **changes})
    torch.testing.assert_close(losses, torch.tensor([[expected, 0.0, 0.0]]))


def test_only_sources_that_have_a_positive_and_others_a_negative_count():
    truth, masks = flat(1.0, 0.0, 0.5), flat(0.5, 0.5, 0.5)
    present, others = torch.tensor([[True, True, False]]), torch.tensor([[False, True, False]])
    losses = triplet_mask_loss(truth, masks, masks, present, others, **SETTINGS)
    torch.testing.assert_close(losses, torch.tensor([[0.1, 0.0, 0.0]]))  # source 1 is not compared with itself


def test_gradients_are_differences_and_zero_at_the_exact_mask():
    generator = torch.Generator().manual_seed(0)
    truth, positives, negatives = torch.rand(3, 2, 3, 4, 4, generator=generator, dtype=torch.float64)
    everyone = torch.ones(2, 3, dtype=torch.bool)
    named = [("positives", torch.nn.Parameter(positives)), ("negatives", torch.nn.Parameter(negatives))]

    def loss():
        return triplet_mask_loss(truth, named[0][1], named[1][1], everyone, everyone, **SETTINGS).sum()

    assert_gradients_are_differences(loss, named)
    exact = truth.clone().requires_grad_()
    triplet_mask_loss(truth, exact, negatives, everyone, everyone, **{**SETTINGS, "margin": 2.0}).sum().backward()
    assert exact.grad is not None and exact.grad.eq(0).all()
