"""Mixtures on the fly: `render` reads what the rows of a plan name, and two executors run it.

Shape letters: B mixtures of a batch, N sources, T samples.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from cocktail.config import Mixing
from cocktail.types import MixtureBatch, UsageError
from pipelines.clips import ClipSource
from pipelines.manifest import Manifest, open_manifest
from pipelines.plans import plan_epoch, usable_clips

_READ = ["shard", "clip_id", "audio_offset", "audio_bytes", "num_samples", "start", "checks"]

RENDER_CPUS = 0.5
"""CPUs that Ray reserves for one rendering task."""


def render(rows: pa.Table, source: ClipSource, segment_samples: int) -> dict[str, np.ndarray]:
    """Read what the rows of a plan name: a batch as columns, ready for any executor.

    `mixture_ids` [B], `sources` int16 [B, N, T], `gains` float32 [B, N], `class_ids` int64 [B, N].
    A clip shorter than T is repeated to fill it (Sound of Pixels). Raises DamagedMemberError.
    """
    plan = rows.select(_READ).to_pydict()
    sources = np.empty((len(rows), len(plan["shard"][0]), segment_samples), np.int16)
    for b in range(len(rows)):
        for n in range(sources.shape[1]):
            clip = {name: column[b][n] for name, column in plan.items()}
            count = min(segment_samples, clip["num_samples"] - clip["start"])
            samples = source.read(clip, clip["start"], count, clip["checks"])
            sources[b, n] = samples if count == segment_samples else np.resize(samples, segment_samples)
    return {
        "mixture_ids": np.array(rows["mixture_id"].to_pylist()),
        "sources": sources,
        "gains": np.array(rows["gain"].to_pylist(), np.float32),
        "class_ids": np.array(rows["class_id"].to_pylist(), np.int64),
    }


def to_batch(columns: dict[str, np.ndarray]) -> MixtureBatch:
    """The rendered columns as the batch that models take; arrays are copied, so that they can be written to."""
    return MixtureBatch(
        mixture_ids=tuple(str(name) for name in columns["mixture_ids"]),
        sources=torch.from_numpy(np.array(columns["sources"])),
        gains=torch.from_numpy(np.array(columns["gains"])),
        class_ids=torch.from_numpy(np.array(columns["class_ids"])),
    )


@dataclass(frozen=True, kw_only=True)
class MixtureStream:
    """The training mixtures of a data set, epoch by epoch, cut into batches for any number of workers.

    A `cocktail.types.BatchSource`. Global batch g of an epoch is rows [g B, (g + 1) B) of its plan, of which
    each rank takes a fixed part; what is left over at an epoch's end is not used.
    """

    folder: str
    mixing: Mixing
    split: str
    seed: int
    batch_size: int
    executor: str = "ray"
    prefetch_batches: int = 2

    @functools.cached_property
    def manifest(self) -> Manifest:
        return open_manifest(self.folder)

    @functools.cached_property
    def _rows_per_epoch(self) -> int:
        return len(usable_clips(self.manifest, self.mixing, self.split).table) * self.mixing.passes_per_epoch

    @property
    def batches_per_epoch(self) -> int:
        """Raises UsageError if an epoch has no whole batch."""
        rows = self._rows_per_epoch
        if rows < self.batch_size:
            raise UsageError(
                f"an epoch has {rows} mixtures, fewer than a batch of {self.batch_size}: lower "
                "--training.batch-size or raise --mixing.passes-per-epoch"
            )
        return rows // self.batch_size

    def batches(self, epoch: int, first: int, rank: int, world_size: int) -> Iterator[MixtureBatch]:
        """This rank's part of the batches of an epoch, from batch `first` on, in order."""
        share = self.batch_size // world_size
        plan = plan_epoch(self.manifest, self.mixing, split=self.split, seed=self.seed, epoch=epoch)
        slices = [plan.slice(g * self.batch_size + rank * share, share) for g in range(first, self.batches_per_epoch)]
        execute = {"ray": _execute_ray, "inline": _execute_inline}[self.executor]
        source = ClipSource.of(self.manifest)
        reading = functools.partial(render, source=source, segment_samples=self.mixing.segment_samples)
        for rows, columns in zip(slices, execute(slices, reading, self.prefetch_batches), strict=True):
            assert list(columns["mixture_ids"]) == rows["mixture_id"].to_pylist(), "batches must follow the plan"
            yield to_batch(columns)


def _execute_inline(slices: list[pa.Table], reading, prefetch: int) -> Iterator[dict[str, np.ndarray]]:
    """Rendering in this process, `prefetch` batches ahead."""
    with ThreadPoolExecutor(max_workers=prefetch) as pool:
        waiting: deque[Future] = deque()
        for rows in slices:
            waiting.append(pool.submit(reading, rows))
            if len(waiting) > prefetch:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _execute_ray(slices: list[pa.Table], reading, prefetch: int) -> Iterator[dict[str, np.ndarray]]:
    """Rendering by Ray Data, one block a batch, in order."""
    import ray.data

    dataset = ray.data.from_arrow(slices).map_batches(
        reading, batch_size=None, batch_format="pyarrow", num_cpus=RENDER_CPUS
    )
    dataset.context.execution_options.preserve_order = True
    dataset.context.enable_progress_bars = False
    dataset.context.raise_original_map_exception = True  # so that a user's mistake stays recognisable
    # Or Ray Data would cut batches of more than 192 MiB into smaller ones.
    dataset.context.target_max_block_size = None
    batches: Any = dataset.iter_batches(batch_size=None, batch_format="numpy", prefetch_batches=prefetch)
    yield from batches
