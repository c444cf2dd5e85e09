"""The mean spectra of the classes that an experiment trains on: a control that travels with the trained model."""

from __future__ import annotations

import functools
from collections.abc import Callable

from cocktail.audio.class_spectra import ClassSpectra
from cocktail.checkpoints.contents import outline
from cocktail.config.experiment import Experiment
from cocktail.storage import join
from cocktail.tasks.choice import tasks_of
from pipelines.describe.spectra import class_spectra
from pipelines.experiments.resources import shard_cache
from pipelines.shards.manifest import Manifest
from pipelines.shards.reader import ClipSource


def training_spectra(experiment: Experiment, manifest: Manifest, connect: Callable[[], None]) -> ClassSpectra | None:
    """Mean spectra of the classes of a manifest over the clips that the experiment trains on, measured on first use.

    Models that are not trained have them, too, of what they would be trained on. None of an experiment whose tests have
    no control of that kind, as of maps.
    """
    evaluation, mixing = experiment.evaluation, experiment.mixing
    model = outline(functools.partial(experiment.model.build, len(manifest.classes)))
    if not any(task.takes_class_spectra for task in tasks_of(model, evaluation, evaluation.test_mixing(mixing))):
        return None
    return class_spectra(
        manifest,
        experiment.training.split,
        mixing.silence_dbfs,
        join(experiment.output, "class-spectra"),
        ClipSource.of(manifest, shard_cache(experiment.resources)),
        connect,
    )
