"""Scoring a trained separator on a frozen list of test mixtures, through Ray: actors separate, tasks score.

Beside the model stand what it says if it is read otherwise (soft masks, classes that it predicts itself) and controls:
the mixture as every estimate (the floor) and ideal masks on the model's own grid (the ceilings of any mask).

Shape letters: B batch, N sources, K estimates of a system, T samples, C classes.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from cocktail.audio.mixing import mix
from cocktail.config import Evaluation, Experiment, Mixing, flatten, part_of
from cocktail.metrics.results import RESULTS, Metrics, score_batch
from cocktail.train.checkpoint import load_checkpoint, read_about
from cocktail.types import MixtureBatch, Separation, UsageError

MIXTURE = "mixture"
SCORING_CPUS = 0.5
SEPARATING_CPUS = 0.5
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
    """The `Separator` on the CPU, ready to separate."""
    mixing: Mixing
    """What it was trained on."""
    evaluation: Evaluation
    """What it was to be tested on."""
    classes: tuple[str, ...]
    """Names of its classes, in the order of their ids."""
    data: str
    """Where the shards were that it was trained on."""


def about(experiment: Experiment, classes: tuple[str, ...], data: str) -> dict[str, Any]:
    """What a checkpoint carries for `load_trained`: plain values."""
    kind = type(experiment.model)
    return {
        "name": experiment.name,
        "model": f"{kind.__module__}:{kind.__qualname__}",
        "settings": flatten(asdict(experiment)),
        "classes": list(classes),
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
    )


def separate_batch(name: str, model: Any, batch: MixtureBatch) -> dict[str, np.ndarray]:
    """A batch's references and every system's estimates as columns, cut to the length the inverse gives back.

    `mixture` [B, T'], `references` [B, N, T'], of which the first `num_sources` [B] are there; `estimates/<system>`
    [B, K, T'] for the model, its alternatives and each control; `classes/<system>` [B, K] for all but the controls,
    whose estimates are the references' in their order; `presence` [B, C] and `vectors` [B, N, D] where there are any.
    """
    device = next(model.parameters()).device
    on_device = batch.to(device)
    mixture, references = mix(on_device)
    separation = model.separate(mixture, on_device.class_ids)
    systems: dict[str, Separation] = {name: separation}
    systems |= {f"{name}, {reading}": found for reading, found in separation.alternatives.items()}
    length = separation.estimates.shape[-1]
    estimates = {system: found.estimates for system, found in systems.items()}
    estimates |= {ceiling: ideal.estimates for ceiling, ideal in model.oracle(mixture, references).items()}
    estimates[MIXTURE] = mixture[:, None, :length]
    columns = {
        "class_ids": batch.class_ids,
        "num_sources": batch.present.sum(dim=1),
        "mixture": mixture[:, :length],
        "references": references[..., :length],
        **{f"estimates/{system}": values for system, values in estimates.items()},
        **{f"classes/{system}": found.class_ids for system, found in systems.items()},
    }
    for column, looked_at in (("presence", "presence"), ("vectors", "source_vectors")):
        if looked_at in separation.intermediates:
            columns[column] = separation.intermediates[looked_at].float()
    return {"mixture_id": np.array(batch.mixture_ids), **{key: value.cpu().numpy() for key, value in columns.items()}}


class _Separate:
    """The actor: reads the rows of a plan and separates them."""

    def __init__(
        self,
        checkpoint: str,
        read: Callable[[pa.Table], MixtureBatch],
        gpu: bool,
    ) -> None:
        trained = load_trained(checkpoint)
        self.name = trained.name
        self.model = trained.model.to("cuda" if gpu else "cpu")
        self.read = read

    def __call__(self, rows: pa.Table) -> dict[str, np.ndarray]:
        with torch.inference_mode():
            return separate_batch(self.name, self.model, self.read(rows))


def evaluate(
    checkpoint: str,
    plan: pa.Table,
    read: Callable[[pa.Table], MixtureBatch],
    *,
    batch_size: int,
    num_gpus: int,
    metrics: Metrics = "batched",
    on_scored: Callable[[pa.Table], None] = lambda rows: None,
) -> pa.Table:
    """Separate and score the mixtures of a plan on the cluster: a table of RESULTS, in the plan's order.

    The checkpoint's model is named after its experiment; its classes are those of the plan. `read` turns rows of the
    plan into a batch, on any node. One actor a GPU separates; without, one for four CPUs (in a
    trial of a sweep, of its share: the actors of many trials must not take what their scoring needs). `on_scored` gets
    the rows of each batch as it is done. Raises UsageError if no mixture can be scored.
    """
    scored = scoring_pipeline(checkpoint, plan, read, batch_size=batch_size, num_gpus=num_gpus, metrics=metrics)
    blocks: Any = scored.iter_batches(batch_size=None, batch_format="pyarrow")
    tables = []
    for block in blocks:
        tables.append(block.cast(RESULTS))
        on_scored(tables[-1])
    results = _in_plan_order(pa.concat_tables(tables), plan)
    if not results["sdr"].is_valid().to_numpy().any():
        raise UsageError(f"none of the {len(plan)} test mixtures can be scored: each has a silent reference")
    return results


def scoring_pipeline(
    checkpoint: str,
    plan: pa.Table,
    read: Callable[[pa.Table], MixtureBatch],
    *,
    batch_size: int,
    num_gpus: int,
    metrics: Metrics,
) -> Any:
    """The Ray dataset of `evaluate`: a block of RESULTS for each batch of the plan. Nothing runs before it is read."""
    import ray
    import ray.data

    from cocktail.train.cluster import trials_at_once

    cpus = int(ray.cluster_resources().get("CPU", 0)) // (trials_at_once() or 1)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = True
    context.raise_original_map_exception = True  # so that a user's mistake stays recognisable
    slices = [plan.slice(start, batch_size) for start in range(0, len(plan), batch_size)]
    by_fuss_rule = len({len(clips) for clips in plan["clip_id"].to_pylist()}) > 1
    return (
        ray.data.from_arrow(slices)
        .map_batches(
            _Separate,
            fn_constructor_args=(checkpoint, read, num_gpus > 0),
            batch_size=batch_size,  # as the blocks are; Ray wants it said for GPUs
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(size=num_gpus or max(cpus // 4, 1)),
            num_cpus=SEPARATING_CPUS,
            num_gpus=1 if num_gpus else 0,
        )
        .map_batches(
            functools.partial(score_batch, metrics=metrics, by_fuss_rule=by_fuss_rule),
            batch_size=None,
            batch_format="numpy",
            num_cpus=SCORING_CPUS,
        )
    )


def _in_plan_order(results: pa.Table, plan: pa.Table) -> pa.Table:
    """Batches group mixtures by their number of sources; here they are in the plan's order again, systems as before."""
    place = {mixture_id: number for number, mixture_id in enumerate(plan["mixture_id"].to_pylist())}
    places = np.array([place[mixture_id] for mixture_id in results["mixture_id"].to_pylist()])
    return results.take(pa.array(np.argsort(places, kind="stable")))
