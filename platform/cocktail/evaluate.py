"""Scoring a trained model on a frozen list of test mixtures, through Ray: actors apply it, tasks score its answers.

What is asked of a model, and how its answers are scored, is a `cocktail.tasks.task.Task`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from cocktail.inference.trained import load_trained
from cocktail.tasks.task import Task
from cocktail.types import MixtureBatch, UsageError

SCORING_CPUS = 0.5
APPLYING_CPUS = 0.5


class _Apply:
    """The actor: reads the rows of a plan and applies the model to them."""

    def __init__(
        self,
        checkpoint: str,
        read: Callable[[pa.Table], MixtureBatch],
        task: Task,
        gpu: bool,
    ) -> None:
        trained = load_trained(checkpoint)
        self.name = trained.name
        self.model = trained.model.to("cuda" if gpu else "cpu")
        self.read = read
        self.task = task

    def __call__(self, rows: pa.Table) -> Any:
        with torch.inference_mode():
            return self.task.apply(self.name, self.model, self.read(rows))


def evaluate(
    checkpoint: str,
    plan: pa.Table,
    read: Callable[[pa.Table], MixtureBatch],
    task: Task,
    *,
    batch_size: int,
    num_gpus: int,
    on_scored: Callable[[pa.Table], None] = lambda rows: None,
) -> pa.Table:
    """Apply a model to the mixtures of a plan and score it, on the cluster: the task's results, in the plan's order.

    The checkpoint's model is named after its experiment; its classes are those of the plan. `read` turns rows of the
    plan into a batch, on any node. One actor a GPU applies the model; without, one for four CPUs (in a trial of a
    sweep, of its share: the actors of many trials must not take what their scoring needs). `on_scored` gets the rows
    of each batch as it is done. Raises UsageError if no mixture can be scored.
    """
    scored = scoring_pipeline(checkpoint, plan, read, task, batch_size=batch_size, num_gpus=num_gpus)
    blocks: Any = scored.iter_batches(batch_size=None, batch_format="pyarrow")
    tables = []
    for block in blocks:
        tables.append(block.cast(task.results))
        on_scored(tables[-1])
    results = _in_plan_order(pa.concat_tables(tables), plan)
    if not task.is_scored(results).any():
        raise UsageError(f"none of the {len(plan)} test mixtures can be scored: {task.why_not(results)}")
    return results


def scoring_pipeline(
    checkpoint: str,
    plan: pa.Table,
    read: Callable[[pa.Table], MixtureBatch],
    task: Task,
    *,
    batch_size: int,
    num_gpus: int,
) -> Any:
    """The Ray dataset of `evaluate`: a block of results for each batch of the plan. Nothing runs before it is read."""
    import ray
    import ray.data

    from cocktail.cluster.connection import trials_at_once

    cpus = int(ray.cluster_resources().get("CPU", 0)) // (trials_at_once() or 1)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = True
    context.raise_original_map_exception = True  # so that a user's mistake stays recognisable
    slices = [plan.slice(start, batch_size) for start in range(0, len(plan), batch_size)]
    return (
        ray.data.from_arrow(slices)
        .map_batches(
            _Apply,
            fn_constructor_args=(checkpoint, read, task, num_gpus > 0),
            batch_size=batch_size,  # as the blocks are; Ray wants it said for GPUs
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(size=num_gpus or max(cpus // 4, 1)),
            num_cpus=APPLYING_CPUS,
            num_gpus=1 if num_gpus else 0,
        )
        .map_batches(task.score, batch_size=None, batch_format=task.answers_format, num_cpus=SCORING_CPUS)
    )


def _in_plan_order(results: pa.Table, plan: pa.Table) -> pa.Table:
    """Batches group mixtures by their number of sources; here they are in the plan's order again, systems as before."""
    place = {mixture_id: number for number, mixture_id in enumerate(plan["mixture_id"].to_pylist())}
    places = np.array([place[mixture_id] for mixture_id in results["mixture_id"].to_pylist()])
    return results.take(pa.array(np.argsort(places, kind="stable")))
