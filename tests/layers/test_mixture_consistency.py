"""Estimates add up to the mixture, by the least change."""

import pytest
import torch

from cocktail.layers.mixture_consistency import add_up_to


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_estimates_add_up_to_the_mixture_to_a_millionth(dtype):
    torch.manual_seed(0)
    mixture, estimates = torch.randn(3, 4000), torch.randn(3, 4, 4000).to(dtype)
    weights = torch.randn(3, 4).softmax(1)
    total = add_up_to(mixture, estimates, weights).sum(1)
    assert (total - mixture).norm() / mixture.norm() < 1e-6


def test_what_is_missing_is_shared_out_by_weight():
    mixture = torch.tensor([[10.0, 0.0]])
    estimates = torch.tensor([[[1.0, 1.0], [3.0, 1.0]]])
    out = add_up_to(mixture, estimates, torch.tensor([[0.25, 0.75]]))
    assert out.tolist() == [[[2.5, 0.5], [7.5, -0.5]]]


def test_even_weights_are_the_projection():
    torch.manual_seed(0)
    mixture, estimates = torch.randn(1, 5, dtype=torch.float64), torch.randn(1, 3, 5, dtype=torch.float64)
    out = add_up_to(mixture, estimates, torch.full((1, 3), 1 / 3, dtype=torch.float64))
    A = torch.eye(5, dtype=torch.float64).repeat(1, 3)  # adds up three estimates
    stacked = estimates.flatten()
    expected = stacked + torch.linalg.pinv(A) @ (mixture[0] - A @ stacked)
    torch.testing.assert_close(out.flatten(), expected)


def test_estimates_that_add_up_stay_as_they_are():
    torch.manual_seed(0)
    once = add_up_to(torch.randn(2, 9), torch.randn(2, 3, 9), torch.randn(2, 3).softmax(1))
    torch.testing.assert_close(add_up_to(once.sum(1), once, torch.randn(2, 3).softmax(1)), once)
