"""Time and memory of a training step, measured before a training is begun."""

from __future__ import annotations

import dataclasses
import itertools
import resource
import statistics
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray
import torch

from cocktail.cluster.connection import quiet_ray
from cocktail.config.experiment import Experiment
from cocktail.machine import peak_bytes, usable_cores
from cocktail.numerics.compiling import compile_network
from cocktail.numerics.precision import autocast_dtype
from cocktail.train.batches import on_device
from cocktail.train.loop import Steps
from cocktail.train.update import Update
from cocktail.train.worker import Worker, set_up_device, worker_environment
from cocktail.types import BatchSource, MixtureBatch, UsageError, share_of

STEPS = 4
"""Steps that are taken; the first, which is slower, is not counted."""


LESS_MEMORY = (
    "Raise --training.accumulate, which takes a share in parts, or --resources.num-workers, or lower "
    "--training.batch-size"
)
NCCL_BYTES = 1 << 30
"""Memory of a GPU that NCCL takes for its channels at most, about: it depends on the links between the GPUs."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A training step of one worker by itself, on its share of real batches among the fewest workers."""

    device: str
    seconds_per_step: float
    cpu_seconds_per_step: float
    """Seconds of the process's threads on CPUs, with what rendering in the process takes."""
    num_parameters: int
    checkpoint_bytes: int
    """Weights and optimizer, as a checkpoint holds them."""
    peak_bytes: int
    """Most bytes in use, of the GPU's memory or else of the process's own."""
    outside_bytes: int = 0
    """Bytes of the GPU that are taken beside torch's tensors: the context, its kernels, other processes."""
    card_bytes: int | None = None
    """Bytes of the GPU; None of a CPU."""

    def needed_bytes(self, num_workers: int) -> int:
        """Bytes that a worker among so many needs: what was measured, what lies outside, and, of several, the gradients
        that DDP keeps between steps and the buffers of NCCL."""
        exchanged = 4 * self.num_parameters + NCCL_BYTES if num_workers > 1 else 0
        return self.peak_bytes + self.outside_bytes + exchanged


def measure_steps(experiment: Experiment, source: BatchSource, num_classes: int, gpus: bool) -> Measured:
    """Take a few steps in a process with a worker's resources, somewhere on the cluster; nothing is kept of them.

    `source` should render in the process that reads it. Raises UsageError if a worker's share of a batch needs more
    memory than its GPU has.
    """
    resources = experiment.resources
    task: Any = ray.remote(
        num_cpus=resources.cpus_per_worker,
        num_gpus=1 if gpus else 0,
        max_retries=0,
        runtime_env=worker_environment(resources, gpus),
    )(_measure)
    return ray.get(task.remote(experiment, source, num_classes))


def _measure(experiment: Experiment, source: BatchSource, num_classes: int) -> Measured:
    quiet_ray()
    workers = experiment.resources.fewest_workers  # of which each has the largest share
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu":
        torch.set_num_threads(max(usable_cores() // workers, 1))
    set_up_device(experiment.training.precision, device)
    share = share_of(experiment.training.batch_size, 0, workers)[1]
    settings = dataclasses.replace(experiment.training, batch_size=share)
    worker = Worker(device=device)
    torch.manual_seed(experiment.seed)
    model = experiment.model.build(num_classes).to(device).train()
    update = Update(model, settings, worker, groups=experiment.model.parameter_groups(model))
    if experiment.resources.compile:
        compile_network(model)
    steps = Steps(model, settings, worker, autocast_dtype(settings.precision, device), experiment.seed)
    batches = on_device(itertools.islice(source.batches(0, 0, 0, workers), STEPS), device)
    begun = time.process_time()
    cpu_seconds: list[float] = []  # up to each step's end
    seconds: list[float] = []
    try:
        for number, batch in enumerate(batches):
            seconds.append(_seconds_of_step(number, batch, steps, update, device))
            cpu_seconds.append(time.process_time() - begun)
    except torch.OutOfMemoryError as error:
        raise UsageError(
            f"a step of one worker, with {share} mixtures, needs more memory than {torch.cuda.get_device_name()} has "
            f"({torch.cuda.get_device_properties(device).total_memory / 1e9:.1f} GB). {LESS_MEMORY}"
        ) from error
    kept = [*model.state_dict().values()]
    for optimizer in update.optimizers:
        kept += itertools.chain(*map(dict.values, optimizer.state.values()))
    on_card: dict[str, int] = {}
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info()
        on_card = {"outside_bytes": total - free - torch.cuda.memory_reserved(), "card_bytes": total}
    return Measured(
        device=torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads",
        seconds_per_step=statistics.median(seconds[1:] or seconds),
        cpu_seconds_per_step=statistics.median(np.diff(cpu_seconds) if len(cpu_seconds) > 1 else cpu_seconds),
        num_parameters=sum(parameter.numel() for parameter in model.parameters()),
        checkpoint_bytes=sum(value.numel() * value.element_size() for value in kept if isinstance(value, torch.Tensor)),
        peak_bytes=torch.cuda.max_memory_reserved()
        if device.type == "cuda"
        else peak_bytes(resource.getrusage(resource.RUSAGE_SELF)),
        **on_card,
    )


def _seconds_of_step(number: int, batch: MixtureBatch, steps: Steps, update: Update, device: torch.device) -> float:
    begun = time.perf_counter()
    steps.take(number, batch, update)
    update.require_finite()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begun
