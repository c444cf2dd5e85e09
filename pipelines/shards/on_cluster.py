"""Rows of plans put to a function by Ray tasks."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa

from cocktail.types import UsageError

_SHOWN = 5
"""Names that a message lists."""


def map_on_cluster(
    rows: pa.Table,
    fn: Callable[..., dict[str, Any]],
    fn_kwargs: dict[str, Any],
    num_tasks: int | None,
    advice: str = "Give --tasks, fewer than the cluster has CPUs, or nodes with more memory; what is done is kept",
) -> Iterator[dict[str, Any]]:
    """A function over rows with a `shard`, one Ray task of one CPU each; results, which name their shard, come as
    tasks end, in any order.

    Raises UsageError, with what to do about it, if Ray, again and again, has to end a task because memory runs short.
    """
    if not len(rows):
        return
    import ray.data  # only here: planning and opening shards must not wait for Ray
    import ray.exceptions

    items = ray.data.from_arrow([rows.slice(number, 1) for number in range(len(rows))])
    items.context.enable_progress_bars = False
    items.context.raise_original_map_exception = True  # so that a user's mistake stays recognisable
    items.context.print_on_execution_start = False
    unfinished = dict.fromkeys(rows["shard"].to_pylist())
    try:
        for result in items.map(fn, fn_kwargs=fn_kwargs, num_cpus=1, concurrency=num_tasks).iter_rows():  # pyright: ignore[reportArgumentType]
            unfinished.pop(result["shard"], None)
            yield result
    except ray.exceptions.OutOfMemoryError as error:
        named = ", ".join(itertools.islice(unfinished, _SHOWN)) + (", ..." if len(unfinished) > _SHOWN else "")
        raise UsageError(
            f"memory ran short on a node each time that one of {len(rows)} tasks was tried: {str(error)[:200]}. "
            f"Of {len(unfinished)} shards there is no result, the first of them {named}. "
            f"{advice}"
        ) from error
