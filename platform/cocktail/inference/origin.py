"""Where a trained model is that somebody names: a checkpoint, a run, a registered version, an exported folder."""

from __future__ import annotations

from dataclasses import dataclass, field

from cocktail.checkpoints.earlier_run import weights_hash
from cocktail.checkpoints.store import find_checkpoint, is_checkpoint
from cocktail.config.experiment import default_output
from cocktail.inference.trained import Trained, load_trained
from cocktail.storage import absolute, exists, is_folder, join
from cocktail.text.redaction import redacted_uri
from cocktail.types import UsageError

_CHECKPOINT_FILES = ("state.pt", "meta.json", "cocktail.json", "model.safetensors")
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
    fixed: str = field(repr=False)
    """What means the same model in any other process, later, too: a whole path, a URI with its credentials, or
    models:/NAME/VERSION."""


def open_model(name: str, tracking_uri: str | None = None) -> tuple[Trained, Origin]:
    """The model that a name means, and where it came from.

    A run's name is looked for in the output folder (COCKTAIL_OUTPUT, `~/cocktail`) and then in MLflow, at
    `tracking_uri`, or MLFLOW_TRACKING_URI, or the database in the output folder. Raises UsageError if there is none.
    """
    if not name.startswith("models:"):
        location = absolute(name, "MODEL").rstrip("/")
        folder, _, file = location.rpartition("/")
        if file in _CHECKPOINT_FILES and exists(location):
            location = folder
        if is_checkpoint(location):
            return _opened(name, location)
        run = join(absolute(default_output(), "COCKTAIL_OUTPUT"), "runs", name)
        if "/" not in name and not exists(location) and is_folder(run):
            return _opened(name, find_checkpoint(run, "MODEL"))
        if "/" in name and not exists(location):
            raise UsageError(f"there is no {redacted_uri(name)}. {EXPECTED}")
    from cocktail.inference.find_model import Places, find_model  # only here: a folder is opened without MLflow

    found = find_model(name, Places.of(tracking_uri))
    return _opened(name, found.location, found.version)


def _opened(given: str, location: str, version: str | None = None) -> tuple[Trained, Origin]:
    trained = load_trained(location)
    return trained, Origin(
        given=redacted_uri(given),
        location=version or redacted_uri(location),
        weights_sha256=weights_hash(trained.model.state_dict()),
        fixed=version or location,
    )
