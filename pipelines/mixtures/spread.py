"""Rendering spread over a cluster: an epoch's batches, stretch by stretch, by Ray Data.

A stretch is a run of batches. It has a pipeline of its own, which begins ahead of the step that needs it: so an epoch
of any length is begun at once, and each stretch is placed on the nodes that are up when it begins. Where shards come
out of an object store, a stretch is a window of shards, or several, and goes to one node: the cluster then fetches a
shard about once an epoch, not once a node, and renders as many stretches side by side as it has nodes.
docs/mixtures.md says what was tried.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import accumulate, chain
from typing import Any

import numpy as np
import pyarrow as pa

from cocktail.cluster.placement import nodes_with_room
from cocktail.cluster.ray_data import settle
from pipelines.mixtures.render import Columns
from pipelines.plans.plan import PlannedBatches

RENDER_CPUS = 0.5
"""Fewest CPUs that Ray reserves for a rendering task: what a cluster must have beside the training processes."""
BEGINS_AHEAD = 50
"""Batches that are left of a stretch when the next one begins."""
LONGEST_STRETCH = 500
"""Most batches of a stretch: the rows of all are given to Ray when it begins."""
SHORTEST_STRETCH = 30
"""Fewest batches of a stretch, as long as there are more: a pipeline takes about a second to begin."""
_NODE_ID = "ray.io/node-id"
"""Label that Ray gives each node, its id."""

Rendering = Callable[[pa.Table], Columns]
Rendered = Iterator[tuple[pa.Table, Columns]]
"""Rows and rendered columns of batches."""


@dataclass
class Nodes:
    """Nodes that render the stretches of a worker. All workers choose alike, as they see the same nodes."""

    given: Counter[str] = field(default_factory=Counter)
    """Number of stretches that each was given."""
    held: dict[str, dict[str, None]] = field(default_factory=dict)
    """Shards that each has fetched for them and may still hold, those that were read last at the end."""
    most_held: int | None = None
    """Shards that a node's cache has room for; None if for all."""

    def give(self, shards: set[str], nodes: Sequence[str]) -> str:
        """Node, one of those that are up, to render what reads some shards."""
        # One that has joined since has no arrears to make up for: it would be given all there is.
        least = min((self.given[node] for node in nodes if node in self.given), default=0)
        self.given.update({node: least for node in nodes if node not in self.given})
        node = choose_node(shards, nodes, self.given, self.held)
        self.given[node] += 1
        held = self.held.setdefault(node, {})
        for shard in sorted(shards):
            held.pop(shard, None)
            held[shard] = None
        for shard in list(held)[: max(len(held) - self.most_held, 0)] if self.most_held is not None else ():
            del held[shard]
        return node


def choose_node(
    shards: set[str], nodes: Sequence[str], given: Mapping[str, int], held: Mapping[str, Collection[str]]
) -> str:
    """Of the nodes that were given the least to do, the one that holds most of some shards."""
    least = min(given[node] for node in nodes)
    idle = [node for node in nodes if given[node] == least]
    return max(idle, key=lambda node: len(shards.intersection(held.get(node, ()))))


def render_on_cluster(
    batches: PlannedBatches,
    rendering: Rendering,
    *,
    prefetch: int,
    cpus: float,
    nodes: Nodes | None,
    batches_a_task: int = 1,
) -> Rendered:
    """Rows and rendered columns of each batch, in order; on the nodes that `nodes` chooses, or else on any.

    A task renders `batches_a_task` batches: of small ones, a task each would cost more than what it renders. It
    reserves `cpus` CPUs, and nothing else bounds how many run: Ray Data gives them what CPUs the cluster has, also
    those that come to it meanwhile, and asks for more nodes while it uses them all.
    """
    waiting = batches.stretches(SHORTEST_STRETCH, LONGEST_STRETCH, by_window=nodes is not None)
    running: deque[tuple[int, Future[Rendered]]] = deque()

    def begin(number: int) -> None:
        """Have so many stretches begun beside the current one, if there are as many."""
        while len(running) < number and (stretch := next(waiting, None)) is not None:
            up = [] if nodes is None else nodes_with_room(cpus)
            node = nodes.give(_shards(stretch), up) if nodes is not None and up else None
            task = partial(_begin, stretch, rendering, cpus=cpus, node=node)
            future = threads.submit(task, prefetch=prefetch, batches_a_task=batches_a_task)
            running.append((len(stretch), future))

    with ThreadPoolExecutor() as threads:
        begin(1)
        while running:
            length, current = running.popleft()
            begin(0 if nodes is None else len(nodes_with_room(cpus)) - 1)
            for number, rendered in enumerate(current.result()):
                if number == max(length - BEGINS_AHEAD, 0):
                    begin(1)
                yield rendered


def _shards(stretch: PlannedBatches) -> set[str]:
    """Shards that all workers together read for a stretch, give or take a batch's."""
    return set(stretch.plan.shards(np.arange(stretch.starts[0], stretch.starts[-1] + stretch.share)))


def _begin(
    stretch: PlannedBatches, rendering: Rendering, *, prefetch: int, cpus: float, node: str | None, batches_a_task: int
) -> Rendered:
    """A stretch's batches, of which the first is rendered; one block a task, in order."""
    import ray.data

    bound: dict[str, Any] = {}
    if node is not None:  # if the node is lost, its tasks run on another
        bound = {"label_selector": {_NODE_ID: node}, "fallback_strategy": [{"label_selector": {}}]}
    tables = list(stretch.rows())
    tasks = [tables[first : first + batches_a_task] for first in range(0, len(tables), batches_a_task)]
    dataset = ray.data.from_blocks([_pack(pa.concat_tables(task)) for task in tasks]).map_batches(
        partial(_render_packed, rendering=rendering),
        batch_size=None,
        batch_format="pyarrow",
        num_cpus=cpus,
        **bound,
    )
    settle(dataset.context)
    dataset.context.execution_options.preserve_order = True
    # Or Ray Data would cut blocks of more than 192 MiB into smaller ones.
    dataset.context.target_max_block_size = None
    ahead = -(-prefetch // batches_a_task)
    rendered: Any = iter(dataset.iter_batches(batch_size=None, batch_format="numpy", prefetch_batches=ahead))
    return _batches_of(tasks, chain([next(rendered)], rendered))


def _batches_of(tasks: Sequence[Sequence[pa.Table]], rendered: Iterator[Columns]) -> Rendered:
    """The batches of each task, out of the columns that it rendered for all of them."""
    for tables, columns in zip(tasks, rendered, strict=True):
        ends = accumulate(map(len, tables))
        for rows, end in zip(tables, ends, strict=True):
            yield rows, {name: values[end - len(rows) : end] for name, values in columns.items()}


def _pack(rows: pa.Table) -> pa.Table:
    """Plan rows as one value: Ray takes that in a third of the time of a table with many columns."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as stream:
        stream.write_table(rows)
    return pa.table({"rows": pa.array([sink.getvalue().to_pybytes()])})


def _render_packed(packed: pa.Table, rendering: Rendering) -> Columns:
    return rendering(pa.ipc.open_stream(packed["rows"][0].as_buffer()).read_all())
