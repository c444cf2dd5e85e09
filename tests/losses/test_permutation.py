"""The least loss over all orders, against trying them one by one."""

import itertools

import pytest
import torch

from cocktail.losses.permutation import MOST_COUNTED_OUT, best_order, permutation_invariant_loss


def least(pairs: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
    """The least sum over the sources present, each with an estimate of its own."""
    sums = []
    for table, here in zip(pairs, present, strict=True):
        sources = here.nonzero().flatten().tolist()
        orders = itertools.permutations(range(len(table)), len(sources))
        sums.append(min(sum(float(table[i, j]) for i, j in zip(order, sources, strict=True)) for order in orders))
    return torch.tensor(sums)


@pytest.mark.parametrize("N", [1, 2, 3, MOST_COUNTED_OUT, MOST_COUNTED_OUT + 1, 6])
def test_it_is_the_least_over_all_orders_for_any_number_of_sources(N):
    torch.manual_seed(N)
    pairs = torch.rand(8, N, N)
    everybody = torch.ones(8, N, dtype=torch.bool)
    torch.testing.assert_close(permutation_invariant_loss(pairs), least(pairs, everybody))
    some = torch.arange(N) < torch.arange(8)[:, None] % (N + 1)
    torch.testing.assert_close(permutation_invariant_loss(pairs, some), least(pairs, some))


@pytest.mark.parametrize("N", [3, MOST_COUNTED_OUT + 1])
def test_the_order_names_the_estimate_of_each_source(N):
    order = torch.stack([torch.randperm(N, generator=torch.Generator().manual_seed(seed)) for seed in range(5)])
    pairs = torch.ones(5, N, N).scatter_(1, order[:, None], 0.0)  # source n is free with estimate order[n]
    assert best_order(pairs).equal(order)
    assert permutation_invariant_loss(pairs).eq(0).all()


@pytest.mark.parametrize("N", [3, MOST_COUNTED_OUT + 1])
def test_gradients_are_those_of_the_best_order(N):
    torch.manual_seed(0)
    pairs = torch.rand(2, N, N, requires_grad=True)
    permutation_invariant_loss(pairs).sum().backward()
    assert pairs.grad is not None
    assert pairs.grad.equal(torch.zeros(2, N, N).scatter_(1, best_order(pairs)[:, None], 1.0))


@pytest.mark.parametrize("N", [2, MOST_COUNTED_OUT + 1])
def test_a_loss_that_is_not_finite_stays_so_and_touches_no_other_mixture(N):
    pairs = torch.rand(2, N, N)
    pairs[0, 1] = torch.nan  # an estimate gone wrong
    loss = permutation_invariant_loss(pairs)
    assert loss[0].isnan() and loss[1].isfinite()
