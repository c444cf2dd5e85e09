"""The mean spectra of the classes that an experiment trains on: a control that travels with the trained model."""

from __future__ import annotations

import functools
from collections.abc import Callable

from cocktail.audio.class_spectra import ClassSpectra
from cocktail.checkpoints.contents import outline
from cocktail.config.experiment import Experiment
from cocktail.storage import join
from cocktail.tasks.choice import tasks_of
from pipelines.describe.spectra import class_spectra, num_clips_to_read
from pipelines.experiments.resources import shard_cache
from pipelines.shards.manifest import Manifest
from pipelines.shards.reader import ClipSource


def training_spectra(experiment: Experiment, manifest: Manifest, connect: Callable[[], None]) -> ClassSpectra | None:
    """Mean spectra of the classes of a manifest over the clips that the experiment trains on, measured on first use.

    Models that are not trained have them, too, of what they would be trained on. None of an experiment whose tests have
    no control of that kind, as of maps.
    """
    if not _are_wanted(experiment, len(manifest.classes)):
        return None
    source = ClipSource.of(manifest, shard_cache(experiment.resources))
    return class_spectra(manifest, *_of_what(experiment), source, connect)


def num_training_clips_to_read(experiment: Experiment, manifest: Manifest) -> int:
    """Clips that `training_spectra` would read all sound of before anything else."""
    return num_clips_to_read(manifest, *_of_what(experiment)) if _are_wanted(experiment, len(manifest.classes)) else 0


def _are_wanted(experiment: Experiment, num_classes: int) -> bool:
    evaluation = experiment.evaluation
    model = outline(functools.partial(experiment.model.build, num_classes))
    tasks = tasks_of(model, evaluation, evaluation.test_mixing(experiment.mixing))
    return any(task.takes_class_spectra for task in tasks)


def _of_what(experiment: Experiment) -> tuple[str, float, str]:
    """The split, the level in dBFS below which a second is silent, and the folder that the spectra are kept in."""
    return experiment.training.split, experiment.mixing.silence_dbfs, join(experiment.output, "class-spectra")
