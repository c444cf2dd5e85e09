"""A trained model, out of what its checkpoint says of itself."""

from __future__ import annotations

import importlib
from dataclasses import asdict, dataclass
from typing import Any

from cocktail.config.evaluation import Evaluation
from cocktail.config.experiment import Experiment
from cocktail.config.mixing import Mixing
from cocktail.config.settings import flatten, part_of
from cocktail.tasks.choice import tasks_of
from cocktail.tasks.task import Task
from cocktail.train.checkpoint import load_checkpoint, read_about
from cocktail.types import UsageError

MODELS = "cocktail.models."
"""Where the model types lie that a checkpoint may name: nothing else is imported for it."""


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A trained model with what one needs to know to use it."""

    name: str
    """Its experiment's name."""
    config: Any
    """The `ModelConfig` that the model was built from."""
    settings: dict[str, Any]
    """Settings of the whole experiment, by dotted path."""
    model: Any
    """The `Separator`, the `Localizer`, or what is both, on the CPU, ready to be used."""
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

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The tasks of the model that the mixtures of its own test can test."""
        return tasks_of(self.model, self.evaluation, self.evaluation.test_mixing(self.mixing))


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
    meta = read_about(checkpoint)
    settings, (module, _, kind) = meta["settings"], str(meta.get("model")).partition(":")
    if not module.startswith(MODELS):
        raise UsageError(f"{checkpoint} is of a model {meta.get('model')!r}, and models lie in {MODELS}*")
    try:
        config_type = getattr(importlib.import_module(module), kind)
    except (ModuleNotFoundError, AttributeError) as error:
        if isinstance(error, ModuleNotFoundError) and error.name != module:
            raise  # the model is there, what it needs is not
        raise UsageError(f"{checkpoint} is of a model that this version does not have: {meta['model']}") from error
    classes = tuple(meta["classes"])
    config = part_of(config_type, settings, "model.")
    model = config.build(len(classes))
    model.load_state_dict(load_checkpoint(checkpoint).state["model"])
    return Trained(
        name=meta["name"],
        config=config,
        settings=settings,
        model=model.eval(),
        mixing=part_of(Mixing, settings, "mixing."),
        evaluation=part_of(Evaluation, settings, "evaluation."),
        classes=classes,
        data=meta["data"],
        untaught=tuple(meta["untaught"]),
    )
