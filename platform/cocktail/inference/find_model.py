"""A trained model by whatever names it: a checkpoint, a run, a registered model, an exported folder.

| name | what it means |
|---|---|
| a folder or URI | a checkpoint, an exported model, a model as MLflow stores it, a run's folder |
| `models:/NAME/VERSION`, `models:/NAME/latest`, `models:/NAME@ALIAS` | a registered model |
| a word without a slash | the name or id of a run in MLflow, unless a folder has that name |
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlflow.entities.model_registry import ModelVersion
from mlflow.tracking import MlflowClient

from cocktail.checkpoints.earlier_run import weights_hash
from cocktail.checkpoints.store import find_checkpoint, is_checkpoint
from cocktail.config.experiment import default_output, given_tracking_uri
from cocktail.inference.registry import WEIGHTS_TAG
from cocktail.inference.trained import load_trained
from cocktail.storage import absolute, is_folder, is_remote, join, list_names, read_bytes, write_atomic
from cocktail.tracking.database import default_tracking_uri
from cocktail.tracking.find import MODELS, find_run, find_version
from cocktail.tracking.run import TrackedRun
from cocktail.types import UsageError

_MLFLOW_MODEL = "MLmodel"
"""The file that makes a folder a model of MLflow's."""


@dataclass(frozen=True, kw_only=True)
class FoundModel:
    """A trained model, and what there is to ask about it."""

    location: str
    """Folder or URI of a checkpoint or an exported model: `cocktail.inference.trained.load_trained` opens it."""
    run: TrackedRun | None = None
    """The run that made it, if it was named by one."""
    version: str | None = None
    """models:/NAME/VERSION, if it was named so."""


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where models are looked for."""

    tracking_uri: str
    keep_in: str
    """Folder or URI where the files of registered models are kept whose checkpoints are gone, or elsewhere."""

    @classmethod
    def of(cls, tracking_uri: str | None = None, output: str | None = None) -> Places:
        """The tracking server or database that is given, or that the environment names, or that lies in the output
        folder."""
        output = absolute(output or default_output(), "--output")
        uri = tracking_uri or given_tracking_uri() or default_tracking_uri(output)
        return cls(tracking_uri=uri, keep_in=join(output, "models"))

    @classmethod
    def of_arguments(cls, arguments: Sequence[str]) -> Places:
        """The places that a job's command line names, by --tracking-uri and --output, before the rest of it is read."""
        first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
        for option in ("tracking-uri", "output"):
            first.add_argument(f"--{option}", f"--{option.replace('-', '_')}", dest=option.replace("-", "_"))
        known, _ = first.parse_known_args(list(arguments))
        return cls.of(known.tracking_uri, known.output)


def is_place(model: str) -> bool:
    """Whether a model is named by the folder or URI where it lies, and not by a name in MLflow."""
    if model.startswith(MODELS):
        return False
    return is_remote(model) or "/" in model or is_folder(model)


def find_model(model: str, places: Places | None = None, option: str = "MODEL") -> FoundModel:
    """The model that is meant. Raises UsageError, naming the option that it was given by, if there is none.

    A registered model's checkpoint is taken where its run left it; where that is gone, or by now another one, from
    MLflow's files.
    """
    if is_place(model):
        location = absolute(model, option)
        if _MLFLOW_MODEL in list_names(location):
            return FoundModel(location=_in_mlflow_model(location))
        return FoundModel(location=find_checkpoint(location, option))
    places = places or Places.of()
    if model.startswith(MODELS):
        version = find_version(places.tracking_uri, model)
        named = f"{MODELS}{version.name}/{version.version}"
        run = TrackedRun(places.tracking_uri, str(version.run_id))
        return FoundModel(location=_of_version(version, run, places), run=run, version=named)
    run = find_run(places.tracking_uri, model)
    location = run.tags.get("checkpoint")
    if location is None:
        raise UsageError(f"{option} {model}: run {run.name} ({run.run_id}, {run.status}) has no checkpoint yet")
    if not is_checkpoint(location):
        raise UsageError(
            f"{option} {model}: the checkpoint of run {run.name} is not at {location} any more: give its registered "
            "model, models:/NAME/VERSION"
        )
    return FoundModel(location=location, run=run)


def located(model: str, places: Callable[[], Places], option: str) -> str:
    """A model's place: a folder or URI stays what it is, as a whole path; a name in MLflow becomes its checkpoint's.

    Raises UsageError, naming the option.
    """
    return absolute(model, option) if is_place(model) else find_model(model, places(), option).location


def _of_version(version: ModelVersion, run: TrackedRun, places: Places) -> str:
    location, registered = run.tags.get("checkpoint"), version.tags.get(WEIGHTS_TAG)
    # The run may have gone on after it registered this version, or another have taken its folder.
    if (
        location is not None
        and is_checkpoint(location)
        and registered in (None, weights_hash(load_trained(location).model.state_dict()))
    ):
        return location
    kept = join(places.keep_in, registered or f"{version.name}-{version.version}")
    for name in list_names(kept):
        if is_checkpoint(join(kept, name)):
            return join(kept, name)
    client = MlflowClient(places.tracking_uri)
    with tempfile.TemporaryDirectory() as folder:
        source = run.ask(lambda _: client.get_model_version_download_uri(version.name, version.version))
        files = run.ask(lambda _: _download(source, places.tracking_uri, folder))
        checkpoint = _in_mlflow_model(files)
        target = join(kept, Path(checkpoint).name)
        for name in sorted(list_names(checkpoint), reverse=True):  # state.pt before meta.json, which commits it
            write_atomic(join(target, name), read_bytes(join(checkpoint, name)))
    return target


def _download(source: str, tracking_uri: str, folder: str) -> str:
    from mlflow.artifacts import download_artifacts

    return download_artifacts(artifact_uri=source, dst_path=folder, tracking_uri=tracking_uri)


def _in_mlflow_model(location: str) -> str:
    """The checkpoint that a registered model holds. Raises UsageError for a model of somebody else's."""
    inside = join(location, "artifacts")
    for name in list_names(inside):
        if is_checkpoint(join(inside, name)):
            return join(inside, name)
    raise UsageError(f"{location} is a model of MLflow's that holds no checkpoint of Cocktail's")
