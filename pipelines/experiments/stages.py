"""Systems that learn in stages: runs in a row, each of which starts from the one before.

The model's configuration has a field `stage` that says which it is in. A stage is a run like any other, and is found
again by its folder: after a kill the same command goes on where it stood.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

from cocktail.config.experiment import Experiment
from cocktail.storage import join, read_bytes
from cocktail.tracking.database import default_tracking_uri
from cocktail.tracking.run import STAGES_TAG, TrackedRun
from cocktail.types import require
from pipelines.embedded.stand_in import open_data
from pipelines.experiments.locations import FINISHED, finished_folder, with_whole_paths
from pipelines.experiments.planned import initial_weights
from pipelines.experiments.run import PartOf, run


def stages_from(experiment: Experiment, stages: Sequence[str]) -> list[Experiment]:
    """The experiments of a model's stage and of those behind it in `stages`; only the first starts as it is told to.

    A run that has a name gives it to the last stage, and to each one before, with the stage's behind it. Raises
    UsageError for a stage that is none of them, or a later one that starts from nothing.
    """
    model: Any = experiment.model
    require(model.stage in stages, f"--model.stage {model.stage} is none of {', '.join(stages)}")
    require(
        model.stage == stages[0] or experiment.start_from is not None,
        f"stage {model.stage} goes on from the one before: give its run or checkpoint by --start-from, or begin with "
        f"--model.stage {stages[0]}",
    )
    asked = []
    for stage in stages[stages.index(model.stage) :]:
        is_last = stage == stages[-1]
        name = experiment.run_name if is_last or experiment.run_name is None else f"{experiment.run_name}-{stage}"
        of_stage = dataclasses.replace(experiment, model=dataclasses.replace(model, stage=stage), run_name=name)
        asked.append(dataclasses.replace(of_stage, start_from=None, start_parts=()) if asked else of_stage)
    return asked


def next_stage(experiment: Experiment, stages: Sequence[str]) -> tuple[Experiment, list[Experiment]]:
    """The first stage that is not finished, starting from the last that is, and those behind it.

    Finished stages of the same settings, data and beginnings have the same weights, so they are not trained again. The
    last stage always comes, as a run that is finished is followed by a new one.
    """
    stage, behind, _ = _unfinished(experiment, stages)
    return stage, behind


def _unfinished(experiment: Experiment, stages: Sequence[str]) -> tuple[Experiment, list[Experiment], list[str]]:
    """As `next_stage`, with the folders of the stages that are finished."""
    stage, *behind = stages_from(experiment, stages)
    folders = []
    while behind and (folder := _finished(stage)) is not None:
        print(f"stage {_name(stage)} is finished: {folder}", flush=True)
        folders.append(folder)
        stage, *behind = dataclasses.replace(behind[0], start_from=folder), *behind[1:]
    return stage, behind, folders


def run_stages(experiment: Experiment, stages: Sequence[str], part_of: PartOf | None = None) -> TrackedRun:
    """Run the stages that are not finished, in order, each a part of the whole. Returns the last stage's run.

    A tag of each names the runs of those before it (`TrackedRun.earlier_stages`).
    """
    part_of = part_of or PartOf()
    for _ in stages:
        stage, behind, folders = _unfinished(experiment, stages)
        before = [json.loads(read_bytes(join(folder, FINISHED)))["mlflow_run"] for folder in folders]
        waiting = f", before {' and '.join(_name(other) for other in behind)}" if behind else ""
        print(f"stage {_name(stage)}{waiting}", flush=True)
        tags = {**part_of.tags, STAGES_TAG: json.dumps(before)}
        tracked = run(stage, dataclasses.replace(part_of, tags=tags))
        if not behind:
            return tracked
    raise AssertionError("each run finishes a stage")


def _name(experiment: Experiment) -> str:
    model: Any = experiment.model
    return model.stage


def _finished(experiment: Experiment) -> str | None:
    """Folder of a stage's finished run, if there is one."""
    experiment = with_whole_paths(experiment)
    manifest = open_data(experiment, experiment.tracking_uri or default_tracking_uri(experiment.output))
    return finished_folder(experiment, manifest, initial_weights(experiment, manifest.classes))
