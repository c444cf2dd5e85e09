"""Places of the things of a run: whole paths, its folder, and what it starts from."""

from __future__ import annotations

import dataclasses
import json
import uuid

from cocktail.checkpoints.initial_weights import InitialWeights
from cocktail.checkpoints.store import checkpoint_store, require_identity
from cocktail.config.experiment import Experiment
from cocktail.config.identity import identity, run_key
from cocktail.inference.find_model import Places, located
from cocktail.storage import absolute, create, exists, join, list_names, read_bytes, write_atomic
from cocktail.tracking.run import PLACE
from cocktail.types import UsageError
from pipelines.shards.manifest import Manifest

FINISHED = "finished.json"
"""Marks a run that has its scores. The same command continues an unfinished run and otherwise starts a new one."""


def place_of(folder: str) -> str:
    """The name of a folder that no other has, on whatever machine: it is given one on first use, and another if that
    cannot be read. The caller holds the folder's lease."""
    location, name = join(folder, PLACE), uuid.uuid4().hex
    data = json.dumps({"name": name}).encode()
    create(location, data)
    try:
        return str(json.loads(read_bytes(location))["name"])
    except (ValueError, KeyError, TypeError):
        print(f"{location} cannot be read: the folder, and its run in MLflow, are named anew", flush=True)
        write_atomic(location, data)
        return name


def initial_folder(experiment: Experiment) -> str:
    """Folder or URI where runs keep the weights that they start from."""
    return join(experiment.output, "initial")


def with_whole_paths(experiment: Experiment) -> Experiment:
    """An experiment that means the same in every process: jobs run in a copy of the user's folder, trials in folders of
    their own, parts of both on other nodes, and a checkpoint is scored from anywhere.

    Raises UsageError, naming the option, for a relative path in a submitted job.
    """

    def whole(location: str | None, option: str) -> str | None:
        return None if location is None else absolute(location, option)

    def places() -> Places:
        return Places.of(experiment.tracking_uri, experiment.output)

    evaluation, model, start_from = experiment.evaluation, experiment.model, experiment.start_from
    start = model.start()
    if start is not None and start.chosen not in ("auto", "none"):
        chosen = absolute(start.chosen, f"--model.{start.setting.replace('_', '-')}")
        model = dataclasses.replace(model, **{start.setting: chosen})
    return dataclasses.replace(
        experiment,
        model=model,
        evaluation=dataclasses.replace(
            evaluation,
            test_list=whole(evaluation.test_list, "--evaluation.test-list"),
            negative_list=whole(evaluation.negative_list, "--evaluation.negative-list"),
            data=whole(evaluation.data, "--evaluation.data"),
        ),
        data=whole(experiment.data, "--data"),
        start_from=None if start_from is None else located(start_from, places, "--start-from"),
        output=absolute(experiment.output, "--output"),
    )


def require_finished(start_from: str) -> None:
    """Raise UsageError if a run is to start from the folder of one that is not finished: it may yet select another
    checkpoint, and the same command would then be another run."""
    selected = checkpoint_store(start_from).selected()
    if selected is not None and not exists(join(start_from, FINISHED)):
        raise UsageError(
            f"--start-from {start_from}: the run is not finished. Wait until it is, or name a checkpoint: {selected}"
        )


def run_folder(experiment: Experiment, manifest: Manifest, initial: InitialWeights) -> str:
    """The folder of the unfinished run of these settings, or of a new one."""
    if experiment.run_name is not None:
        return join(experiment.output, "runs", experiment.run_name)
    stem, newest = _newest_run(experiment, manifest, initial)
    if newest and not exists(join(f"{stem}{newest}", FINISHED)):
        return f"{stem}{newest}"
    return f"{stem}{newest + 1}"


def finished_folder(experiment: Experiment, manifest: Manifest, initial: InitialWeights) -> str | None:
    """The folder of the newest finished run of these settings; None if there is none.

    Raises UsageError if the run of the name that is asked for has other settings.
    """
    if experiment.run_name is not None:
        folder = run_folder(experiment, manifest, initial)
        newest = checkpoint_store(folder).newest()
        if newest is None or not exists(join(folder, FINISHED)):
            return None
        require_identity(newest, identity(experiment, manifest.root_hash, initial.sha256))
        return folder
    stem, newest = _newest_run(experiment, manifest, initial)
    folders = [f"{stem}{number}" for number in range(newest, 0, -1)]
    return next((folder for folder in folders if exists(join(folder, FINISHED))), None)


def _newest_run(experiment: Experiment, manifest: Manifest, initial: InitialWeights) -> tuple[str, int]:
    """What the folders of all runs of these settings begin with, and the number of the newest; 0 if there is none."""
    runs = join(experiment.output, "runs")
    stem = f"{experiment.name}-{run_key(experiment, manifest.root_hash, initial.sha256)}-"
    ends = [name.removeprefix(stem) for name in list_names(runs) if name.startswith(stem)]
    return join(runs, stem), max((int(end) for end in ends if end.isdecimal()), default=0)
