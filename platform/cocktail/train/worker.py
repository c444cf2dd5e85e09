"""A training process among how many."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import nn


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where this process trains, among how many."""

    device: torch.device
    rank: int = 0
    world_size: int = 1


def share_buffers(model: nn.Module, place: Place) -> None:
    """Give all workers the first one's running statistics: those that checkpoints hold."""
    if place.world_size > 1:
        for buffer in model.buffers():
            dist.broadcast(buffer, 0)
