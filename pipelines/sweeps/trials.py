"""A trial of a sweep: an ordinary run, with what the sweep says of it and takes from it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from cocktail.config.experiment import Experiment
from cocktail.config.settings import flatten
from cocktail.text.printable import as_metric_name
from cocktail.tracking.run import TrackedRun
from pipelines.experiments.run import PartOf, run
from pipelines.experiments.stages import run_stages
from pipelines.mixtures.stream import MixtureStream
from pipelines.sweeps.grids import PlannedTrial

LABEL_TAG, OVERRIDES_TAG, STATUS_TAG = "trial.label", "trial.overrides", "trial.status"


def run_trial(
    label: str, *, planned: Mapping[str, PlannedTrial], parent: str, here: Mapping[str, str]
) -> dict[str, float]:
    """Run one trial as any experiment is run. Returns its scores."""
    trial = planned[label]
    tags = {**here, **tags_of(trial), STATUS_TAG: "running"}
    part_of = PartOf(parent=parent, tags=tags)
    if trial.stages:
        return recorded(run_stages(trial.experiment, trial.stages, part_of), trial.experiment.name)
    return recorded(run(trial.experiment, part_of), trial.experiment.name)


def tags_of(trial: PlannedTrial) -> dict[str, str]:
    """What a trial's MLflow run says of it."""
    return {LABEL_TAG: trial.label, OVERRIDES_TAG: json.dumps(trial.overrides)}


def recorded(tracked: TrackedRun, system: str) -> dict[str, float]:
    """What a run's MLflow run holds of what a sweep shows: its steps, with those of the stages before it, its last
    loss, and the scores of its system."""
    losses = tracked.history("loss/total")
    steps = steps_of([*tracked.earlier_stages, tracked])
    last = {"step": steps, "num_steps": steps, "loss/total": losses[-1][1]} if losses else {}
    # Behind test, or test/<task> of a model that has several: a table has the same column for both.
    own = f"/{as_metric_name(system)}/"
    scores = {
        name.partition(own)[2]: history[-1][1] for name, history in tracked.histories(("test/",)).items() if own in name
    }
    return last | scores


def steps_of(runs: Iterable[TrackedRun]) -> int:
    """Training steps that some runs have logged."""
    return sum(history[-1][0] for run in runs if (history := run.history("loss/total")))


def shared_settings(experiments: Sequence[Experiment]) -> dict[str, Any]:
    """Settings, by dotted path, that all of some experiments have alike."""
    first, *others = [flatten(asdict(experiment)) for experiment in experiments]
    return {path: value for path, value in first.items() if all(path in o and o[path] == value for o in others)}


def num_steps_of(experiment: Experiment) -> int:
    training = experiment.training
    stream = MixtureStream(
        folder=str(experiment.data),
        mixing=experiment.mixing,
        split=training.split,
        seed=experiment.seed,
        batch_size=training.batch_size,
    )
    return training.num_steps(stream.batches_per_epoch)
