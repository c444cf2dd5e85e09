"""A training process among how many."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import nn


@dataclass(frozen=True, kw_only=True)
class Worker:
    """A training process: its device, and which it is among how many."""

    device: torch.device
    rank: int = 0
    world_size: int = 1


def share_buffers(model: nn.Module, worker: Worker) -> None:
    """Give all workers the first one's running statistics: those that checkpoints hold."""
    if worker.world_size > 1:
        for buffer in model.buffers():
            dist.broadcast(buffer, 0)
