"""A training process among how many."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import nn

from cocktail.config.resources import Resources
from cocktail.machine import keeping_memory
from cocktail.numerics.precision import autocast_dtype, precision_in_words, use_tf32, uses_tf32


@dataclass(frozen=True, kw_only=True)
class Worker:
    """A training process: its device, and which it is among how many."""

    device: torch.device
    rank: int = 0
    world_size: int = 1


def worker_environment(resources: Resources, gpus: bool) -> dict[str, dict[str, str]]:
    """The runtime environment of training processes, on GPUs or not, beside that of the job."""
    return {"env_vars": keeping_memory() if resources.keep_memory and not gpus else {}}


def set_up_device(precision: str, device: torch.device) -> str:
    """Set what a training (`Training.precision`) wants of this process's GPU, if it has one. Returns what it is then
    trained in, for people.

    Batches have one shape, for which cuDNN may try its algorithms once and keep the fastest.
    """
    use_tf32(precision == "tf32")
    torch.backends.cudnn.benchmark = True
    return precision_in_words(autocast_dtype(precision, device), uses_tf32(device))


def share_buffers(model: nn.Module, worker: Worker) -> None:
    """Give all workers the first one's running statistics: those that checkpoints hold."""
    if worker.world_size > 1:
        for buffer in model.buffers():
            dist.broadcast(buffer, 0)
