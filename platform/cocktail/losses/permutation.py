"""The permutation-invariant loss, for estimates that no class names: they count in the order of the least loss
(Yu et al., ICASSP 2017).

Shape letters: B batch, N sources.
"""

from __future__ import annotations

import itertools

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

MOST_COUNTED_OUT = 4
"""Sources whose orders are all tried, on the device; of more, the best order is solved for, on the CPU."""


def permutation_invariant_loss(pairs: Tensor, present: Tensor | None = None) -> Tensor:
    """The least sum [B] of losses over sources, each with an estimate of its own.

    `pairs` [B, N, N] holds the loss of each estimate (second axis) with each source (third axis). With `present` bool
    [B, N] only such sources count, and the estimates left over cost nothing. Gradients are those of the best order.
    """
    if present is not None:
        pairs = pairs * present[:, None]
    return pairs.gather(1, best_order(pairs)[:, None]).sum(dim=(1, 2))


@torch.no_grad()
def best_order(pairs: Tensor) -> Tensor:
    """The estimate of each source, int64 [B, N], in the order of the least sum of losses `pairs` [B, N, N]."""
    N = pairs.shape[1]
    if N > MOST_COUNTED_OUT:
        # A loss that is not finite stops the training by itself; the solver would raise an error that names no cause.
        costs = pairs.double().nan_to_num().cpu().numpy()
        orders = [torch.from_numpy(linear_sum_assignment(cost.T)[1]) for cost in costs]
        return torch.stack(orders).to(pairs.device)
    orders = torch.tensor(list(itertools.permutations(range(N))), device=pairs.device)
    sums = pairs[:, orders, torch.arange(N, device=pairs.device)].sum(dim=2)
    return orders[sums.argmin(dim=1)]
