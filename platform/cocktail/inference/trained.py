"""A trained model, out of what its checkpoint says of itself."""

from __future__ import annotations

import functools
import importlib
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from cocktail.audio.class_spectra import ClassSpectra
from cocktail.checkpoints.contents import names_of, require_outline, telling_of_settings, value_of
from cocktail.checkpoints.store import load_checkpoint, read_about
from cocktail.checkpoints.training_record import TrainedOn, read_precision, read_trained_on
from cocktail.config.evaluation import Evaluation
from cocktail.config.experiment import Experiment
from cocktail.config.identity import PLACES
from cocktail.config.mixing import Mixing
from cocktail.config.model import ModelConfig
from cocktail.config.settings import flatten, part_of
from cocktail.tasks.choice import tasks_of
from cocktail.tasks.task import Task
from cocktail.types import UsageError

MODELS = "cocktail.models."
"""Where the model types lie that a checkpoint may name: nothing else is imported for it."""
_SPECTRA = "class_spectra"


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A trained model with what one needs to know to use it."""

    name: str
    """Its experiment's name."""
    config: Any
    """The `ModelConfig` that the model was built from."""
    settings: dict[str, Any]
    """Settings of the whole experiment, by dotted path, but those of places."""
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
    class_spectra: ClassSpectra | None = None
    """Mean spectra of its classes in training; None of a model that does not separate, and in earlier checkpoints."""
    trained_on: tuple[TrainedOn, ...] | None = ()
    """All that it was trained on; None if its checkpoint does not say."""
    started_from: str | None = None
    """Weights that its training started from, for people; None if its checkpoint does not say."""
    precision: str | None = None
    """What it was trained in, for people; None if its checkpoint does not say, or if it was not trained."""

    @property
    def in_words(self) -> str | None:
        """A sentence on what it was trained on and from; None of a model that was not."""
        if not self.config.trains:
            return None
        split, start = self.settings.get("training.split"), self.started_from
        of_split = "" if split is None else f" of the split {split}"
        return f"Trained on {self.mixing.in_words}{of_split}{'' if start is None else f', from {start}'}."

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The tasks of the model that the mixtures of its own test can test."""
        return tasks_of(self.model, self.evaluation, self.evaluation.test_mixing(self.mixing))

    def require_sample_rate(self, sample_rate_hz: int) -> None:
        """Raise UsageError unless sound at this rate, in Hz, is what the model learned to hear: at another, all that it
        knows of frequencies and times is wrong, and no shape of a tensor says so."""
        learned = self.mixing.sample_rate_hz
        if sample_rate_hz != learned:
            raise UsageError(
                f"{self.name} was trained on sound at {learned} Hz and hears no other, not {sample_rate_hz} Hz: give "
                f"sound at {learned} Hz, of shards by making them with --sample-rate-hz {learned}"
            )

    def require_test_mixing(self, mixing: Mixing) -> None:
        """Raise UsageError if the model cannot be tested on such mixtures: of another rate than it was trained on, or
        of what its configuration refuses."""
        self.require_sample_rate(mixing.sample_rate_hz)
        self.config.require_test_mixing(mixing)


def about(
    experiment: Experiment,
    classes: tuple[str, ...],
    data: str,
    untaught: tuple[str, ...] = (),
    class_spectra: ClassSpectra | None = None,
    *,
    trained_on: tuple[TrainedOn, ...] | None = None,
    started_from: str | None = None,
) -> dict[str, Any]:
    """What a checkpoint carries for `load_trained`: plain values, but no settings that say where its run is.

    What it is trained in is added where it is trained (`cocktail.checkpoints.training_record.with_precision`).
    """
    kind = type(experiment.model)
    settings = flatten(asdict(experiment))
    return {
        "name": experiment.name,
        "model": f"{kind.__module__}:{kind.__qualname__}",
        "settings": {path: value for path, value in settings.items() if path not in PLACES},
        "classes": list(classes),
        "untaught": list(untaught),
        "data": data,
        **({} if class_spectra is None else {_SPECTRA: class_spectra.to_plain()}),
        "trained_on": None if trained_on is None else [asdict(each) for each in trained_on],
        "started_from": started_from,
    }


def load_trained(checkpoint: str) -> Trained:
    """The model of a checkpoint, built from what the checkpoint says of itself.

    Raises UsageError if there is no checkpoint, if it is damaged, if its weights are not those that its settings
    describe, or if this version does not have its kind of model.
    """
    meta = read_about(checkpoint)
    settings, mixing, evaluation = read_settings(checkpoint)
    classes = names_of(checkpoint, meta, "classes")
    config_type = _config_type(checkpoint, value_of(checkpoint, meta, "model", str))
    with telling_of_settings(checkpoint):
        config = part_of(config_type, settings, "model.")
    weights = load_checkpoint(checkpoint).state["model"]
    build = functools.partial(config.build, len(classes))
    require_outline(checkpoint, weights, build)
    model = build()
    model.load_state_dict(weights)
    return Trained(
        name=value_of(checkpoint, meta, "name", str),
        config=config,
        settings=settings,
        model=model.eval(),
        mixing=mixing,
        evaluation=evaluation,
        classes=classes,
        data=value_of(checkpoint, meta, "data", str),
        untaught=names_of(checkpoint, meta, "untaught"),
        class_spectra=_class_spectra(checkpoint, meta, len(classes), mixing.sample_rate_hz),
        trained_on=read_trained_on(checkpoint) if config.trains else (),
        started_from=value_of(checkpoint, meta, "started_from", str) if meta.get("started_from") else None,
        precision=", then ".join(read_precision(checkpoint)) or None,
    )


def _class_spectra(
    checkpoint: str, meta: Mapping[str, Any], num_classes: int, sample_rate_hz: int
) -> ClassSpectra | None:
    """The mean spectra of its classes that a checkpoint holds, if any. Raises UsageError for what are none."""
    if _SPECTRA not in meta:
        return None
    try:
        return ClassSpectra.of_plain(meta[_SPECTRA], num_classes, sample_rate_hz)
    except ValueError as error:
        raise UsageError(f"{checkpoint} is damaged: its {_SPECTRA} {error}. Take another checkpoint") from error


def read_settings(checkpoint: str) -> tuple[dict[str, Any], Mixing, Evaluation]:
    """Settings of a checkpoint's experiment by dotted path, and of these its mixtures and tests. Raises UsageError."""
    settings = value_of(checkpoint, read_about(checkpoint), "settings", dict)
    with telling_of_settings(checkpoint):
        return settings, part_of(Mixing, settings, "mixing."), part_of(Evaluation, settings, "evaluation.")


def _config_type(checkpoint: str, model: str) -> type[ModelConfig]:
    """The configuration that a checkpoint names. Raises UsageError for one that is none of ours, unimported."""
    module, _, kind = model.partition(":")
    if not re.fullmatch(rf"{re.escape(MODELS)}\w+", module):
        raise UsageError(f"{checkpoint} is of a model {model!r:.100}, and models lie in {MODELS}*")
    try:
        config_type = getattr(importlib.import_module(module), kind)
    except (ModuleNotFoundError, AttributeError) as error:
        if isinstance(error, ModuleNotFoundError) and error.name != module:
            raise  # the model is there, what it needs is not
        raise UsageError(f"{checkpoint} is of a model that this version does not have: {model}") from error
    if not isinstance(config_type, type) or not issubclass(config_type, ModelConfig):
        raise UsageError(f"{checkpoint} is of a model {model!r:.100}, which is none: {kind} is no configuration")
    return config_type
