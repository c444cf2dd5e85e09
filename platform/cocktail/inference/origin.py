"""Where a trained model is that somebody names: a checkpoint, a run, a registered version, an exported folder."""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from cocktail.checkpoints.earlier_run import weights_hash
from cocktail.checkpoints.store import checkpoint_store
from cocktail.config.experiment import default_output, given_tracking_uri
from cocktail.inference.trained import Trained, load_trained
from cocktail.storage import absolute, exists, is_folder, join, list_names
from cocktail.text.redaction import redacted_uri
from cocktail.types import UsageError

EXPORTED = ("cocktail.json", "model.safetensors")
"""Files that make a folder an exported model."""
_REGISTERED = re.compile(r"models:/(?P<name>[^/@]+)(/(?P<version>\d+)|@(?P<alias>[^/@]+))")
_CHECKPOINT_FILES = ("state.pt", "meta.json")
EXPECTED = (
    "Give a checkpoint (step-...), a run's folder or name, models:/NAME/VERSION, models:/NAME@ALIAS, or an exported "
    "folder"
)


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where a model came from, and which one it is."""

    given: str
    """As it was named."""
    location: str
    """What was opened."""
    weights_sha256: str
    """Hash of the weights (`cocktail.checkpoints.earlier_run.weights_hash`), as registered versions are tagged with."""


def open_model(name: str, tracking_uri: str | None = None) -> tuple[Trained, Origin]:
    """The model that a name means, and where it came from.

    A run's name is looked for in the output folder (COCKTAIL_OUTPUT, `~/cocktail`) and then in MLflow, at
    `tracking_uri`, or MLFLOW_TRACKING_URI, or the database in the output folder. Raises UsageError if there is none.
    """
    if name.startswith("models:"):
        return _registered(name, tracking_uri)
    location = absolute(name, "MODEL")
    if exists(location):
        return _opened(name, _in_folder(location, name))
    if "/" in name:
        raise UsageError(f"there is no {redacted_uri(name)}. {EXPECTED}")
    run = join(absolute(default_output(), "COCKTAIL_OUTPUT"), "runs", name)
    if is_folder(run):
        return _opened(name, _in_folder(run, name))
    return _opened(name, _of_tracked_run(name, tracking_uri))


def _opened(given: str, location: str) -> tuple[Trained, Origin]:
    trained = _exported(location) if _is_exported(location) else load_trained(location)
    return trained, Origin(
        given=redacted_uri(given),
        location=redacted_uri(location),
        weights_sha256=weights_hash(trained.model.state_dict()),
    )


def _is_exported(location: str) -> bool:
    return all(exists(join(location, file)) for file in EXPORTED)


def _exported(folder: str) -> Trained:
    """The model in an exported folder."""
    from cocktail.inference.export import load_exported

    return load_exported(folder)


def _in_folder(location: str, given: str) -> str:
    """The checkpoint or exported folder that a path means. Raises UsageError if it holds neither."""
    parent, _, file = location.rpartition("/")
    if file in _CHECKPOINT_FILES:
        location = parent
    if exists(join(location, "meta.json")) or _is_exported(location):
        return location
    if exists(join(location, "MLmodel")):  # a registered model that somebody downloaded
        steps = [step for step in list_names(join(location, "artifacts")) if step.startswith("step-")]
        if steps:
            return join(location, "artifacts", steps[-1])
    selected = checkpoint_store(location).selected()
    if selected is None:
        raise UsageError(f"{redacted_uri(given)} holds no model. {EXPECTED}")
    return selected


def _tracking_uri(given: str | None) -> str:
    from cocktail.tracking.database import DATABASE, sqlite_uri

    known = given or given_tracking_uri()
    if known is not None:
        return known
    output = absolute(default_output(), "COCKTAIL_OUTPUT")
    database = Path(output) / DATABASE
    if "://" in output or not database.exists():
        raise UsageError(
            f"there is no MLflow database {redacted_uri(str(database))}: set MLFLOW_TRACKING_URI, or give "
            "--tracking-uri, or COCKTAIL_OUTPUT"
        )
    return sqlite_uri(database)


def _of_tracked_run(name: str, tracking_uri: str | None) -> str:
    """The checkpoint of the run of that name or id in MLflow."""
    try:
        uri = _tracking_uri(tracking_uri)
    except UsageError as error:
        raise UsageError(f"there is no model {name}. {EXPECTED}. As a run's name: {error}") from error
    from cocktail.tracking.find import find_run

    checkpoint = find_run(uri, name).tags.get("checkpoint")
    if checkpoint is None:
        raise UsageError(f"the run {name} has no checkpoint yet: wait until it is scored, or give one's folder")
    return checkpoint


def _registered(name: str, tracking_uri: str | None) -> tuple[Trained, Origin]:
    """A version in MLflow's registry, fetched to this machine for as long as it is opened."""
    found = _REGISTERED.fullmatch(name)
    if found is None:
        raise UsageError(f"{name}: expected models:/NAME/VERSION or models:/NAME@ALIAS")
    uri = _tracking_uri(tracking_uri)
    import mlflow.artifacts
    from mlflow.tracking import MlflowClient

    from cocktail.tracking.outages import ERRORS, reason

    with tempfile.TemporaryDirectory(prefix="cocktail-") as folder:
        try:
            client = MlflowClient(uri)
            version = found["version"]
            if version is None:
                version = client.get_model_version_by_alias(found["name"], found["alias"]).version
            source = client.get_model_version_download_uri(found["name"], str(version))
            fetched = mlflow.artifacts.download_artifacts(source, dst_path=folder, tracking_uri=uri)
        except ERRORS as error:
            raise UsageError(f"cannot fetch {name} from {redacted_uri(uri)}: {reason(error)}") from error
        trained, origin = _opened(name, _in_folder(str(fetched), name))
    return trained, Origin(
        given=origin.given,
        location=f"models:/{found['name']}/{version}",
        weights_sha256=origin.weights_sha256,
    )
