"""The way of batches to the step: begun early, copied to the device, or the same few over and over."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch

from cocktail.types import BatchSource, MixtureBatch


def begun(batches: Iterator[MixtureBatch]) -> Iterator[MixtureBatch]:
    """The batches, of which the first is made from now on, whenever it is asked for."""
    thread = ThreadPoolExecutor(max_workers=1)
    first = thread.submit(next, batches)
    thread.shutdown(wait=False)

    def rest() -> Iterator[MixtureBatch]:
        yield first.result()
        yield from batches

    return rest()


def on_device(batches: Iterator[MixtureBatch], device: torch.device) -> Iterator[MixtureBatch]:
    """The batches on a device. To a GPU each is copied while the one before is computed with."""
    if device.type != "cuda":
        for batch in batches:
            yield batch.to(device)
        return
    copying = torch.cuda.Stream(device)

    ahead: _Copied | None = None
    for batch in batches:
        waiting, ahead = ahead, _Copied(batch.pin(), device, copying)
        if waiting is not None:
            yield waiting.arrived()
    if ahead is not None:
        yield ahead.arrived()


class _Copied:
    """A batch on its way to a GPU. It holds what is copied from until that is done."""

    def __init__(self, pinned: MixtureBatch, device: torch.device, copying: torch.cuda.Stream) -> None:
        self._pinned = pinned
        self._done = torch.cuda.Event()
        with torch.cuda.stream(copying):
            self._batch = pinned.to(device)
            self._done.record()

    def arrived(self) -> MixtureBatch:
        """The batch, for what is computed from now on."""
        computing = torch.cuda.current_stream()
        computing.wait_event(self._done)
        self._batch.used_by(computing)
        return self._batch


@dataclass(frozen=True)
class FirstBatches:
    """The first batches of a source, over and over: what a model that works learns by heart."""

    source: BatchSource
    number: int

    @property
    def batches_per_epoch(self) -> int:
        return self.source.batches_per_epoch

    def batches(self, epoch: int, first: int, rank: int, world_size: int) -> Iterator[MixtureBatch]:
        few = list(itertools.islice(self.source.batches(0, 0, rank, world_size), self.number))
        for batch in range(first, self.batches_per_epoch):
            yield few[batch % len(few)]

    def plan_ahead(self, epoch: int) -> None:
        """There is nothing to plan: all epochs are of the first one's batches."""

    def state(self, step: int) -> dict[str, Any]:
        return {**self.source.state(step), "overfit_batches": self.number}
