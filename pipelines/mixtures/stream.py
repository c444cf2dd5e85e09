"""Mixtures on the fly: a stream of batches by (epoch, batch), rendered by one of two executors.

Global batch g of an epoch is rows [g B, (g + 1) B) of its plan; rank r of W takes rows [r B / W, (r + 1) B / W),
rounded down, of those. Both executors run the same `render` on the same rows, so what comes out is the same bytes.
"""

from __future__ import annotations

import functools
import os
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import torch

from cocktail.config.mixing import Mixing
from cocktail.types import MixtureBatch, UsageError, share_of
from pipelines.mixtures.batches import to_batch
from pipelines.mixtures.plan import mixtures_per_epoch, plan_epoch
from pipelines.mixtures.pool import ClipPool, list_array, usable_clips
from pipelines.mixtures.render import Columns, render
from pipelines.shards.cache import ShardCache
from pipelines.shards.manifest import Manifest, open_manifest
from pipelines.shards.reader import ClipSource

RENDER_CPUS = 0.5
"""CPUs that Ray reserves for one rendering task."""
BATCHES_AHEAD = 50
"""Number of batches by which, ahead of rendering, the inline executor fetches shards out of an object store."""


@dataclass(frozen=True, kw_only=True)
class MixtureStream:
    """The training mixtures of a data set, epoch by epoch, cut into batches for any number of workers.

    A `cocktail.types.BatchSource`. What is left over at an epoch's end is not used.
    """

    folder: str
    mixing: Mixing
    split: str
    seed: int
    batch_size: int
    executor: Literal["ray", "inline"] = "ray"
    prefetch_batches: int = 2
    cache: ShardCache | None = None
    pin_memory: bool = False
    """Render into memory that a GPU copies from by itself; inline only."""

    def __getstate__(self) -> dict[str, Any]:
        """The settings alone: what is derived from them is derived again where it is used, and does not travel."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @functools.cached_property
    def manifest(self) -> Manifest:
        return open_manifest(self.folder)

    @functools.cached_property
    def pool(self) -> ClipPool:
        """The clips that the mixtures are drawn from."""
        return usable_clips(self.manifest, self.mixing, self.split)

    @property
    def batches_per_epoch(self) -> int:
        """Raises UsageError if an epoch has no whole batch."""
        rows = mixtures_per_epoch(self.pool)
        if rows < self.batch_size:
            raise UsageError(
                f"an epoch has {rows} mixtures, fewer than a batch of {self.batch_size}: lower "
                "--training.batch-size or raise --mixing.passes-per-epoch"
            )
        return rows // self.batch_size

    def state(self, step: int) -> dict[str, Any]:
        """Place of a step's mixtures, and the data set that it is in; a checkpoint holds it."""
        epoch, batch = divmod(step, self.batches_per_epoch)
        return {
            "epoch": epoch,
            "batch": batch,
            "seed": self.seed,
            "batch_size": self.batch_size,
            "batches_per_epoch": self.batches_per_epoch,
            "manifest": self.manifest.root_hash,
        }

    def batches(self, epoch: int, first: int, rank: int, world_size: int) -> Iterator[MixtureBatch]:
        """Batches of this rank: its part of the batches of an epoch, from batch `first` on, in order."""
        begin, share = share_of(self.batch_size, rank, world_size)
        plan = self._plans.take(epoch)
        starts = [g * self.batch_size + begin for g in range(first, self.batches_per_epoch)]
        source = ClipSource.of(self.manifest, self.cache)
        rendering = functools.partial(render, source=source, mixing=self.mixing)
        execute = functools.partial(_execute_ray, world_size=world_size)
        if self.executor == "inline":
            new_array = _new_pinned if self.pin_memory else np.zeros
            rendering = functools.partial(rendering, new_array=new_array)
            execute = functools.partial(_execute_inline, source=source, threads=rendering_threads(self.mixing))
        for start, columns in zip(starts, execute(plan, starts, share, rendering, self.prefetch_batches), strict=True):
            planned = plan["mixture_id"].slice(start, share).to_pylist()
            assert columns["mixture_id"].tolist() == planned, "batches must follow the plan"
            yield to_batch(columns)

    def plan_ahead(self, epoch: int) -> None:
        """Begin to plan an epoch in the background; its batches will be of that plan."""
        self._plans.begin(epoch)

    @functools.cached_property
    def _plans(self) -> PlanAhead:
        return PlanAhead(lambda epoch: plan_epoch(self.pool, seed=self.seed, epoch=epoch))


class PlanAhead:
    """Plans of epochs, of which one may be made before it is asked for."""

    def __init__(self, plan: Callable[[int], pa.Table]) -> None:
        self._plan = plan
        self._ahead: tuple[int, Future[pa.Table]] | None = None

    def begin(self, epoch: int) -> None:
        """Begin to plan an epoch, in a thread, in place of any other that was begun."""
        if self._ahead is None or self._ahead[0] != epoch:
            thread = ThreadPoolExecutor(max_workers=1)
            self._ahead = epoch, thread.submit(self._plan, epoch)
            thread.shutdown(wait=False)

    def take(self, epoch: int) -> pa.Table:
        """The plan of an epoch: that which was begun, or else made now."""
        ahead = self._ahead
        if ahead is None or ahead[0] != epoch:
            return self._plan(epoch)
        self._ahead = None
        return ahead[1].result()


def _new_pinned(shape: tuple[int, ...], dtype: type) -> np.ndarray:
    kinds = {np.int16: torch.int16, np.uint8: torch.uint8}
    return torch.zeros(shape, dtype=kinds[dtype], pin_memory=True).numpy()


def rendering_threads(mixing: Mixing) -> int:
    """Threads that a training process renders by: of pictures, which are decoded outside of Python's lock, as many as
    are its share of the node's cores; of sound two, as more would wait for the lock more than they do.
    """
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # of torch.distributed, on this node
    cores = max(len(os.sched_getaffinity(0)) // processes, 1)
    return cores if mixing.pictures_per_source else min(cores, 2)


def _execute_inline(
    plan: pa.Table,
    starts: list[int],
    share: int,
    rendering: Callable[[pa.Table], Columns],
    prefetch: int,
    source: ClipSource,
    threads: int,
) -> Iterator[Columns]:
    """Rendering in this process, `prefetch` batches ahead or as many as there are threads; one more fetches shards."""
    slices, prefetch = [plan.slice(start, share) for start in starts], max(prefetch, threads)
    with ThreadPoolExecutor(max_workers=threads) as pool, FetchAhead.of(slices, source) as fetching:
        waiting: deque[Future] = deque()
        try:
            for rows in slices:
                waiting.append(pool.submit(rendering, rows))
                fetching.advance()
                if len(waiting) > prefetch:
                    yield fetching.add_to(waiting.popleft().result())
            while waiting:
                yield fetching.add_to(waiting.popleft().result())
        finally:
            for future in waiting:
                future.cancel()


@dataclass(frozen=True)
class FetchAhead:
    """A thread that fetches shards into the node's cache before the batches that need them are rendered."""

    thread: Future | None
    turns: threading.Semaphore
    stopped: threading.Event
    fetched: queue.SimpleQueue[int]
    """Bytes of each shard that the thread has fetched and no batch has counted yet."""

    @classmethod
    @contextmanager
    def of(cls, slices: list[pa.Table], source: ClipSource) -> Iterator[FetchAhead]:
        """While it is open, shards are fetched for as many batches ahead as BATCHES_AHEAD."""
        turns, stopped = threading.Semaphore(BATCHES_AHEAD), threading.Event()
        fetched: queue.SimpleQueue[int] = queue.SimpleQueue()

        def fetch() -> None:
            seen: set[str] = set()
            for rows in slices:
                turns.acquire()
                for shard in sorted(set(list_array(rows["shard"]).flatten().to_pylist()) - seen):
                    if stopped.is_set():
                        return
                    if num_bytes := source.fetch(shard):
                        fetched.put(num_bytes)
                    seen.add(shard)

        with ThreadPoolExecutor(max_workers=1) as pool:
            thread = None if source.cache is None else pool.submit(fetch)
            try:
                yield cls(thread, turns, stopped, fetched)
            finally:
                stopped.set()
                turns.release(len(slices) + 1)

    def add_to(self, columns: Columns) -> Columns:
        """Count what the thread has fetched since among what the first mixture of a batch took."""
        while not self.fetched.empty():
            columns["bytes_fetched"][0] += self.fetched.get()
            columns["cache_misses"][0] += 1
        return columns

    def advance(self) -> None:
        """One more batch is being rendered. Raises what the thread has raised."""
        self.turns.release()
        if self.thread is not None and self.thread.done():
            self.thread.result()


def _execute_ray(
    plan: pa.Table,
    starts: list[int],
    share: int,
    rendering: Callable[[pa.Table], Columns],
    prefetch: int,
    world_size: int,
) -> Iterator[Columns]:
    """Rendering by Ray Data, one block a batch, in order. docs/mixtures.md says what was tried."""
    import ray
    import ray.data

    dataset = ray.data.from_blocks([_pack(plan.slice(start, share)) for start in starts]).map_batches(
        functools.partial(_render_packed, rendering=rendering),
        batch_size=None,
        batch_format="pyarrow",
        num_cpus=RENDER_CPUS,
        # Reserving less than a CPU lets a task fit anywhere; more tasks than CPUs only get in each other's way.
        compute=ray.data.TaskPoolStrategy(max(int(ray.cluster_resources().get("CPU", 1)) // world_size, 1)),
    )
    dataset.context.execution_options.preserve_order = True
    dataset.context.enable_progress_bars = False
    dataset.context.print_on_execution_start = False
    dataset.context.raise_original_map_exception = True  # so that a user's mistake stays recognisable
    # Or Ray Data would cut batches of more than 192 MiB into smaller ones.
    dataset.context.target_max_block_size = None
    batches: Any = dataset.iter_batches(batch_size=None, batch_format="numpy", prefetch_batches=prefetch)
    yield from batches


def _pack(rows: pa.Table) -> pa.Table:
    """Plan rows as one value: Ray takes that in a third of the time of a table with many columns."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as stream:
        stream.write_table(rows)
    return pa.table({"rows": pa.array([sink.getvalue().to_pybytes()])})


def _render_packed(packed: pa.Table, rendering: Callable[[pa.Table], Columns]) -> Columns:
    return rendering(pa.ipc.open_stream(packed["rows"][0].as_buffer()).read_all())
