"""Scoring a trained model on a frozen list of test mixtures, through Ray: actors apply it, tasks score its answers.

What is asked of a model, and how its answers are scored, is a `cocktail.tasks.task.Task`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from cocktail.config.experiment import Evaluation, Experiment, Mixing, flatten, part_of
from cocktail.tasks.task import Task
from cocktail.train.checkpoint import load_checkpoint, read_about
from cocktail.types import MixtureBatch, UsageError

SCORING_CPUS = 0.5
APPLYING_CPUS = 0.5
MODELS = "cocktail.models."
"""Where the model types lie that a checkpoint may name: nothing else is imported for it."""


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A trained model with what one needs to know to use it."""

    name: str
    """Of its experiment."""
    config: Any
    """The `ModelConfig` that the model was built from."""
    settings: dict[str, Any]
    """The whole experiment's, by dotted path."""
    model: Any
    """The `Separator` or `Localizer`, on the CPU, ready to be used."""
    mixing: Mixing
    """What it was trained on."""
    evaluation: Evaluation
    """What it was to be tested on."""
    classes: tuple[str, ...]
    """Names of its classes, in the order of their ids."""
    data: str
    """Where the shards were that it was trained on."""
    untaught: tuple[str, ...] = ()
    """Names of classes that no clip that it was trained on has."""


def about(
    experiment: Experiment, classes: tuple[str, ...], data: str, untaught: tuple[str, ...] = ()
) -> dict[str, Any]:
    """What a checkpoint carries for `load_trained`: plain values."""
    kind = type(experiment.model)
    return {
        "name": experiment.name,
        "model": f"{kind.__module__}:{kind.__qualname__}",
        "settings": flatten(asdict(experiment)),
        "classes": list(classes),
        "untaught": list(untaught),
        "data": data,
    }


def load_trained(checkpoint: str) -> Trained:
    """The model of a checkpoint, built from what the checkpoint says of itself.

    Raises UsageError if there is no checkpoint, if it is damaged, or if this version does not have its kind of model.
    """
    told = read_about(checkpoint)
    settings, (module, _, kind) = told["settings"], str(told.get("model")).partition(":")
    if not module.startswith(MODELS):
        raise UsageError(f"{checkpoint} is of a model {told.get('model')!r}, and models lie in {MODELS}*")
    try:
        config_type = getattr(importlib.import_module(module), kind)
    except (ModuleNotFoundError, AttributeError) as error:
        if isinstance(error, ModuleNotFoundError) and error.name != module:
            raise  # the model is there, what it needs is not
        raise UsageError(f"{checkpoint} is of a model that this version does not have: {told['model']}") from error
    classes = tuple(told["classes"])
    config = part_of(config_type, settings, "model.")
    model = config.build(len(classes))
    model.load_state_dict(load_checkpoint(checkpoint).state["model"])
    return Trained(
        name=told["name"],
        config=config,
        settings=settings,
        model=model.eval(),
        mixing=part_of(Mixing, settings, "mixing."),
        evaluation=part_of(Evaluation, settings, "evaluation."),
        classes=classes,
        data=told["data"],
        untaught=tuple(told["untaught"]),
    )


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
