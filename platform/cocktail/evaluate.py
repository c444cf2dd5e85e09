"""Scoring a trained model on a frozen list of test mixtures, through Ray: actors apply it, tasks score its answers.

What is asked of a model, and how its answers are scored, is a `cocktail.tasks.task.Task`; a model may have several.
"""

from __future__ import annotations

import functools
import pickle
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from cocktail.inference.trained import load_trained
from cocktail.numerics.precision import precision_in_words, use_tf32
from cocktail.tasks.task import Task
from cocktail.types import MixtureBatch, UsageError

SCORING_CPUS = 0.5
APPLYING_CPUS = 0.5
SCORED_WITH_TF32 = False
SCORED_IN = precision_in_words(None, SCORED_WITH_TF32)
"""What models are applied in, whatever they were trained in."""
_PACKED = "packed"
"""The one column of what travels from the actors."""


class _Apply:
    """The actor: reads the rows of a plan once, and puts the model to all tasks."""

    def __init__(
        self,
        checkpoint: str,
        read: Callable[[pa.Table], MixtureBatch],
        tasks: tuple[Task, ...],
        gpu: bool,
    ) -> None:
        use_tf32(SCORED_WITH_TF32)
        trained = load_trained(checkpoint)
        self.device = "cuda" if gpu else "cpu"
        self.name = trained.name
        self.model = trained.model.to(self.device)
        self.read = read
        self.tasks = [task.with_class_spectra(trained.class_spectra) for task in tasks]

    def __call__(self, rows: pa.Table) -> pa.Table:
        batch = self.read(rows).to(self.device)
        with torch.no_grad():  # not inference_mode: a model may take gradients of its own for its answers (Grad-CAM)
            return _packed([task.apply(self.name, self.model, batch) for task in self.tasks])


def _score(rows: pa.Table, tasks: tuple[Task, ...]) -> pa.Table:
    """The results by each task of the answers of a batch."""
    (answers,) = _unpacked(rows)
    return _packed([task.score(each).cast(task.results) for task, each in zip(tasks, answers, strict=True)])


def _packed(values: Sequence[Any]) -> pa.Table:
    """One row of a Ray dataset: what tasks give has no columns in common."""
    return pa.table({_PACKED: pa.array([pickle.dumps(values)], pa.large_binary())})


def _unpacked(rows: pa.Table) -> list[list[Any]]:
    """What was packed into each row. Only this module's actors have written it."""
    return [pickle.loads(row.as_buffer()) for row in rows[_PACKED]]


def evaluate(
    checkpoint: str,
    plan: pa.Table,
    read: Callable[[pa.Table], MixtureBatch],
    tasks: tuple[Task, ...],
    *,
    batch_size: int,
    num_gpus: tuple[int, int],
    on_scored: Callable[[tuple[pa.Table, ...]], None] = lambda results: None,
) -> tuple[pa.Table, ...]:
    """Apply a model to the mixtures of a plan and score it, on the cluster: each task's results, in the plan's order.

    The checkpoint's model is named after its experiment; its classes are those of the plan. `read` turns rows of the
    plan into a batch, on any node. One actor a GPU applies the model, of the fewest to the most that `num_gpus` names,
    as the cluster has room; with 0 and 0, one for four CPUs (in a trial of a sweep, of its share: the actors of many
    trials must not take what their scoring needs). `on_scored` gets the results of each batch as it is done. Raises
    UsageError if no mixture can be scored by any task.
    """
    scored = scoring_pipeline(checkpoint, plan, read, tasks, batch_size=batch_size, num_gpus=num_gpus)
    blocks: Any = scored.iter_batches(batch_size=None, batch_format="pyarrow")
    batches: list[tuple[pa.Table, ...]] = []
    for block in blocks:
        for results in _unpacked(block):
            batches.append(tuple(results))
            on_scored(batches[-1])
    tables = tuple(_in_plan_order(pa.concat_tables(of_task), plan) for of_task in zip(*batches, strict=True))
    if not any(task.is_scored(results).any() for task, results in zip(tasks, tables, strict=True)):
        reasons = "; ".join(task.why_not(results) for task, results in zip(tasks, tables, strict=True))
        raise UsageError(f"none of the {len(plan)} test mixtures can be scored: {reasons}")
    return tables


def scoring_pipeline(
    checkpoint: str,
    plan: pa.Table,
    read: Callable[[pa.Table], MixtureBatch],
    tasks: tuple[Task, ...],
    *,
    batch_size: int,
    num_gpus: tuple[int, int],
) -> Any:
    """The Ray dataset of `evaluate`: a row, packed, for each batch of the plan. None is scored before it is read."""
    import ray
    import ray.data

    from cocktail.cluster.connection import trials_at_once
    from cocktail.cluster.ray_data import actor_pool, settle

    cpus = int(ray.cluster_resources().get("CPU", 0)) // (trials_at_once() or 1)
    on_gpus = num_gpus[1] > 0
    fewest, most = num_gpus if on_gpus else (max(cpus // 4, 1), max(cpus // 4, 1))
    context = ray.data.DataContext.get_current()
    settle(context)
    context.execution_options.preserve_order = True
    slices = [plan.slice(start, batch_size) for start in range(0, len(plan), batch_size)]
    return (
        ray.data.from_arrow(slices)
        .map_batches(
            _Apply,
            fn_constructor_args=(checkpoint, read, tasks, on_gpus),
            batch_size=batch_size,  # as the blocks are; Ray wants it said for GPUs
            batch_format="pyarrow",
            compute=actor_pool(fewest, most),
            num_cpus=APPLYING_CPUS,
            num_gpus=1 if on_gpus else 0,
        )
        .map_batches(
            functools.partial(_score, tasks=tasks), batch_size=1, batch_format="pyarrow", num_cpus=SCORING_CPUS
        )
    )


def _in_plan_order(results: pa.Table, plan: pa.Table) -> pa.Table:
    """Batches group mixtures by their number of sources; here they are in the plan's order again, systems as before."""
    place = {mixture_id: number for number, mixture_id in enumerate(plan["mixture_id"].to_pylist())}
    places = np.array([place[mixture_id] for mixture_id in results["mixture_id"].to_pylist()])
    return results.take(pa.array(np.argsort(places, kind="stable")))
