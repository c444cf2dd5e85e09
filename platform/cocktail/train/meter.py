"""What training's log lines say: means over the steps since the last one, and where the time went."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields

import torch
import torch.distributed as dist
from torch import Tensor

from cocktail.train.worker import Worker
from cocktail.types import ReadStatistics

_STATISTICS = [field.name for field in fields(ReadStatistics)]
OUTSIDE = ("data", "log", "checkpoint")
"""What takes time beside the steps. Looks and validation are counted apart: one chooses how often they are."""


@dataclass
class Meter:
    """Sums over the steps since the last log line. On a GPU nothing here waits for it, before `read`."""

    losses: dict[str, Tensor] = field(default_factory=dict)
    norms: list[Tensor] = field(default_factory=list)
    steps: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    read_statistics: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_STATISTICS, 0))
    started: float = field(default_factory=time.perf_counter)

    def add(self, losses: dict[str, Tensor], norm: Tensor, read_statistics: ReadStatistics) -> None:
        for name, loss in losses.items():
            self.losses[name] = self.losses.get(name, 0.0) + loss.detach()
        self.norms.append(norm)
        self.steps += 1
        for name in _STATISTICS:
            self.read_statistics[name] += getattr(read_statistics, name)

    @contextmanager
    def timing(self, what: str) -> Iterator[None]:
        """Count the time of what is done inside."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[what] = self.seconds.get(what, 0.0) + time.perf_counter() - begun

    def read(self, batch_size: int, worker: Worker) -> dict[str, float]:
        """Means over steps and workers, the speed, and what was read on all workers.

        `outside_step_share` is the share of the time that went into data, logging and checkpoints, not into steps.
        """
        names = sorted(self.losses)
        means = torch.stack([self.losses[name].float() for name in names]) / self.steps
        norms = torch.stack(self.norms).float()
        read_statistics = torch.tensor(list(self.read_statistics.values()), dtype=torch.float64, device=worker.device)
        if worker.world_size > 1:
            dist.all_reduce(means)
            means /= worker.world_size
            dist.all_reduce(read_statistics)
        applied = norms[norms.isfinite()]  # in float16 some overflow: their updates were left out
        elapsed = time.perf_counter() - self.started
        training = elapsed - self.seconds.get("look", 0.0) - self.seconds.get("validation", 0.0)
        bytes_read, bytes_fetched, hits, misses = read_statistics.tolist()
        return {
            **{f"loss/{name}": value for name, value in zip(names, means.tolist(), strict=True)},
            **(
                {"gradient_norm": float(applied.mean()), "gradient_norm_max": float(applied.max())}
                if len(applied)
                else {}
            ),
            "seconds_per_step": training / self.steps,
            "mixtures_per_second": self.steps * batch_size / training,
            "data_wait_share": self.seconds.get("data", 0.0) / training,
            "outside_step_share": sum(self.seconds.get(what, 0.0) for what in OUTSIDE) / training,
            "bytes_read_per_second": bytes_read / training,
            "bytes_fetched_per_second": bytes_fetched / training,
            **({"cache_hit_share": hits / (hits + misses)} if hits + misses else {}),
        }
