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
from cocktail.machine import usable_cores
from cocktail.types import MixtureBatch, UsageError, share_of
from pipelines.mixtures.batches import to_batch
from pipelines.mixtures.render import Columns, render
from pipelines.mixtures.spread import RENDER_CPUS, Nodes, Rendered, Rendering, render_on_cluster
from pipelines.plans.plan import EpochPlan, PlannedBatches, mixtures_per_epoch
from pipelines.plans.pool import ClipPool, usable_clips
from pipelines.plans.shared_pool import share_manifest, share_pool
from pipelines.shards.cache import ShardCache
from pipelines.shards.manifest import Manifest, open_manifest
from pipelines.shards.reader import ClipSource

BATCHES_AHEAD = 50
"""Number of batches by which, ahead of rendering, the inline executor fetches shards out of an object store."""
TASK_BYTES = 4 << 20
"""Bytes that a task on the cluster renders, about, of batches that are smaller: a task costs some milliseconds."""
MOST_BATCHES_A_TASK = 8
MOST_THREADS = 16
"""Most threads of the inline executor: each holds a batch, in memory that is pinned where there is a GPU."""


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
    render_cpus: float = RENDER_CPUS
    """CPUs that Ray reserves for a rendering task."""
    trials_a_node: int = 1
    """Trials of a sweep that share a node, whose cores the inline executor shares with them."""
    pin_memory: bool = False
    """Render into memory that a GPU copies from by itself; inline only."""

    def __getstate__(self) -> dict[str, Any]:
        """The settings alone: what is derived from them is derived again where it is used, and does not travel."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @functools.cached_property
    def manifest(self) -> Manifest:
        manifest = open_manifest(self.folder)
        return manifest if self.cache is None else share_manifest(manifest, self.cache.folder)

    @functools.cached_property
    def pool(self) -> ClipPool:
        """The clips that the mixtures are drawn from."""
        pool = usable_clips(self.manifest, self.mixing, self.split)
        return pool if self.cache is None else share_pool(pool, self.cache.folder)

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
        starts = np.arange(first, self.batches_per_epoch, dtype=np.int64) * self.batch_size + begin
        planned = PlannedBatches(plan, starts, share)
        source = ClipSource.of(self.manifest, self.cache)
        if self.executor == "inline":
            new_array = _new_pinned if self.pin_memory else np.zeros
            rendering = functools.partial(render, source=source, mixing=self.mixing, new_array=new_array)
            threads = rendering_threads(self.mixing, self.trials_a_node)
            rendered = render_inline(planned, rendering, self.prefetch_batches, source, threads=threads)
        else:
            rendered = render_on_cluster(
                planned,
                functools.partial(render, source=source, mixing=self.mixing),
                prefetch=self.prefetch_batches,
                cpus=self.render_cpus,
                nodes=None if source.cache is None else self._nodes,
                batches_a_task=batches_a_task(self.mixing, share),
            )
        for rows, columns in rendered:
            assert columns["mixture_id"].tolist() == rows["mixture_id"].to_pylist(), "batches must follow the plan"
            yield to_batch(columns)

    def plan_ahead(self, epoch: int) -> None:
        """Begin to plan an epoch in the background; its batches will be of that plan."""
        self._plans.begin(epoch)

    @functools.cached_property
    def _plans(self) -> PlanAhead:
        return PlanAhead(lambda epoch: EpochPlan(pool=self.pool, seed=self.seed, epoch=epoch).begun())

    @functools.cached_property
    def _nodes(self) -> Nodes:
        """Nodes that fetch shards for this worker, epoch after epoch."""
        sizes = [size for _, size in self.manifest.shards.values()]
        mean = max(sum(sizes) / max(len(sizes), 1), 1)
        return Nodes(most_held=None if self.cache is None else int(self.cache.max_bytes / mean))


class PlanAhead:
    """Plans of epochs, of which one may be made before it is asked for."""

    def __init__(self, plan: Callable[[int], EpochPlan]) -> None:
        self._plan = plan
        self._ahead: tuple[int, Future[EpochPlan]] | None = None

    def begin(self, epoch: int) -> None:
        """Begin to plan an epoch, in a thread, in place of any other that was begun."""
        if self._ahead is None or self._ahead[0] != epoch:
            thread = ThreadPoolExecutor(max_workers=1)
            self._ahead = epoch, thread.submit(self._plan, epoch)
            thread.shutdown(wait=False)

    def take(self, epoch: int) -> EpochPlan:
        """The plan of an epoch: that which was begun, or else made now."""
        ahead = self._ahead
        if ahead is None or ahead[0] != epoch:
            return self._plan(epoch)
        self._ahead = None
        return ahead[1].result()


def _new_pinned(shape: tuple[int, ...], dtype: type) -> np.ndarray:
    kinds = {np.int16: torch.int16, np.uint8: torch.uint8}
    return torch.zeros(shape, dtype=kinds[dtype], pin_memory=True).numpy()


def batches_a_task(mixing: Mixing, mixtures: int) -> int:
    """Batches of so many mixtures that a task on the cluster renders: what comes to TASK_BYTES, at least one."""
    clips = mixing.clips_per_mixture
    sounds = 2 * mixing.num_sources * mixing.segment_samples
    pictures = 3 * clips * mixing.pictures_per_source * mixing.picture_side**2
    return min(max(TASK_BYTES // ((sounds + pictures) * max(mixtures, 1)), 1), MOST_BATCHES_A_TASK)


def rendering_threads(mixing: Mixing, trials_a_node: int = 1) -> int:
    """Threads that a training process renders by: of pictures, which are decoded outside of Python's lock, as many as
    are its share of the node's cores, up to MOST_THREADS; of sound two, as more would wait for the lock more than they
    do.
    """
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # of torch.distributed, on this node
    cores = max(usable_cores() // (processes * trials_a_node), 1)
    return min(cores, MOST_THREADS if mixing.pictures_per_source else 2)


def render_inline(
    batches: PlannedBatches, rendering: Rendering, prefetch: int, source: ClipSource, *, threads: int
) -> Rendered:
    """Rendering in this process, `prefetch` batches ahead or as many as there are threads; others fetch shards."""
    prefetch = max(prefetch, threads)
    with ThreadPoolExecutor(max_workers=threads) as pool, FetchAhead.of(batches, source) as fetching:
        waiting: deque[tuple[pa.Table, Future[Columns]]] = deque()
        try:
            for rows in batches.rows():
                waiting.append((rows, pool.submit(rendering, rows)))
                fetching.advance()
                if len(waiting) > prefetch:
                    rows, future = waiting.popleft()
                    yield rows, fetching.add_to(future.result())
            while waiting:
                rows, future = waiting.popleft()
                yield rows, fetching.add_to(future.result())
        finally:
            for _, future in waiting:
                future.cancel()


@dataclass(frozen=True)
class FetchAhead:
    """A thread that has shards fetched into the node's cache before the batches that need them are rendered."""

    thread: Future | None
    turns: threading.Semaphore
    stopped: threading.Event
    fetched: queue.SimpleQueue[int]
    """Bytes of each shard that the thread has fetched and no batch has counted yet."""

    @classmethod
    @contextmanager
    def of(cls, batches: PlannedBatches, source: ClipSource) -> Iterator[FetchAhead]:
        """While it is open, shards are fetched for as many batches ahead as BATCHES_AHEAD."""
        turns, stopped = threading.Semaphore(BATCHES_AHEAD), threading.Event()
        fetched: queue.SimpleQueue[int] = queue.SimpleQueue()

        def fetch() -> None:
            seen: set[str] = set()
            for shards in batches.shards():
                turns.acquire()
                if stopped.is_set():
                    return
                for num_bytes in source.fetch([shard for shard in shards if shard not in seen]):
                    fetched.put(num_bytes)
                seen.update(shards)

        with ThreadPoolExecutor(max_workers=1) as pool:
            thread = None if source.cache is None else pool.submit(fetch)
            try:
                yield cls(thread, turns, stopped, fetched)
            finally:
                stopped.set()
                turns.release(len(batches) + 1)

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
