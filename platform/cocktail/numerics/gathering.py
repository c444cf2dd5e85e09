"""Rows of the whole batch on every worker, for losses that compare the rows of a batch with each other.

The mean over workers of what each then computes of all rows is what one worker computes alone, gradients included.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from cocktail.numerics.randomness import rows_in_step


def gather_rows(rows: Tensor) -> Tensor:
    """The rows [R, ...] of all workers, one worker's after the other's: [R', ...].

    Only within a training step of several workers; elsewhere the rows themselves. Shares of a batch may differ in
    length, so each is filled up with zeros to one length: what is a row has to be told by the rows themselves.
    """
    room = _room()
    if room is None:
        return rows
    padding = rows.new_zeros(room - len(rows), *rows.shape[1:])
    return _Gather.apply(torch.cat([rows, padding]))


def places_of_own_rows(num_rows: int, device: torch.device) -> Tensor:
    """Where `gather_rows` puts this worker's rows, int64 [R]."""
    room = _room()
    return torch.arange(num_rows, device=device) + (0 if room is None else dist.get_rank() * room)


def _room() -> int | None:
    """Rows that each worker has room for among those of all; None where rows are not gathered."""
    whole = rows_in_step()
    if whole is None or not dist.is_initialized() or dist.get_world_size() == 1:
        return None
    # A worker whose mixtures were all dropped takes part with two that stand in.
    return max(-(-whole // dist.get_world_size()), 2)


class _Gather(torch.autograd.Function):
    """Gathering of every worker's rows. Its gradient is the sum of what all workers' gradients say of the own rows."""

    @staticmethod
    def forward(context: Any, rows: Tensor) -> Tensor:
        context.num_rows = len(rows)
        gathered = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
        dist.all_gather(gathered, rows.contiguous())
        return torch.cat(gathered)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        gradient = gradient.contiguous()
        dist.all_reduce(gradient)
        first = dist.get_rank() * context.num_rows
        return gradient[first : first + context.num_rows]
