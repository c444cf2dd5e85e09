"""Trained models in MLflow's registry: versions of their experiment's name that anyone loads with MLflow alone."""

from __future__ import annotations

import hashlib
import importlib.metadata
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import numpy as np
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.tracking import MlflowClient
from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema, TensorSpec

from cocktail.inference.trained import Trained, load_trained
from cocktail.tracking.run import TrackedRun
from cocktail.train.checkpoint import CheckpointStore, load_checkpoint, read_about, read_identity
from cocktail.types import Localizer

FOLDER = "model"
"""Among the run's artifacts."""
WEIGHTS_TAG = "weights_sha256"
RUN_TAG = "run_name"
_NEEDED = ("mlflow", "torch", "numpy", "scipy", "pyarrow", "tyro")
"""What `cocktail.evaluate` and the models import; a test loads a model where nothing else can be imported."""


def slim_checkpoint(checkpoint: str, folder: str) -> str:
    """A checkpoint of the weights alone, in a folder: `load_trained` opens it, training cannot go on from it.

    Returns its location.
    """
    state = {"model": load_trained(checkpoint).model.state_dict()}
    store = CheckpointStore(folder, about=read_about(checkpoint))
    return store.save(load_checkpoint(checkpoint).step, state, read_identity(checkpoint), keep=1)


def weights_hash(trained: Trained) -> str:
    """SHA-256 of a model's weights with their names."""
    total = hashlib.sha256()
    for name, value in trained.model.state_dict().items():
        total.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        total.update(value.contiguous().view(-1).numpy().tobytes())
    return total.hexdigest()


def save_model(checkpoint: str, folder: Path) -> None:
    """Write a checkpoint as an MLflow pyfunc model: our code, the weights, no pickle.

    A separator takes mixtures float32 [B, T] in [-1, 1] at `sample_rate_hz` (in the model's metadata), and the names of
    the classes to separate as the parameter `classes`; it gives estimates float32 [B, N, T'] in the order of the names.
    A localizer takes `mixture`, the same but a plain sum, and `pictures` uint8 [B, K, H, W, 3] of `picture_side`; it
    gives maps float32 [B, N, H, K W].
    """
    trained = load_trained(checkpoint)
    library = Path(__file__).parents[1]
    localizes = isinstance(trained.model, Localizer)
    mixture, maps = (-1, -1), (-1, -1, -1, -1)
    inputs: list[ColSpec | TensorSpec] = [TensorSpec(np.dtype(np.float32), mixture)]
    if localizes:
        pictures = TensorSpec(np.dtype(np.uint8), (-1, -1, -1, -1, 3), "pictures")
        inputs = [TensorSpec(np.dtype(np.float32), mixture, "mixture"), pictures]
    metadata = {"sample_rate_hz": trained.mixing.sample_rate_hz, "classes": list(trained.classes)}
    signature = ModelSignature(
        inputs=Schema(inputs),
        outputs=Schema([TensorSpec(np.dtype(np.float32), maps if localizes else maps[:3])]),
        params=ParamSchema([ParamSpec("classes", "string", default=[], shape=(-1,))]),
    )
    needed = (*_NEEDED, "torchvision") if localizes else _NEEDED
    with tempfile.TemporaryDirectory() as temporary, warnings.catch_warnings():
        # The signature is ours: an example would only be there to guess it from.
        warnings.filterwarnings("ignore", message=".*An input example was not provided")
        mlflow.pyfunc.save_model(
            folder,
            python_model=str(library / ("inference/mlflow_localizer.py" if localizes else "inference/mlflow_model.py")),
            artifacts={"checkpoint": slim_checkpoint(checkpoint, temporary)},
            code_paths=[str(library)],
            signature=signature,
            pip_requirements=[f"{name}=={importlib.metadata.version(name)}" for name in needed],
            metadata=metadata | ({"picture_side": trained.mixing.picture_side} if localizes else {}),
        )


def register(tracked: TrackedRun, checkpoint: str, tags: Mapping[str, Any]) -> str:
    """Store a run's checkpoint as a model among its artifacts, and register it under its experiment's name.

    A checkpoint that the run has registered already gets no second version; its tags are written anew. Returns the
    model's URI, models:/NAME/VERSION.
    """
    trained = load_trained(checkpoint)
    weights = weights_hash(trained)
    version = tracked.ask(lambda client: _find_version(client, trained.name, tracked.run_id, weights))
    if version is None:
        with tempfile.TemporaryDirectory() as temporary:
            save_model(checkpoint, Path(temporary, FOLDER))
            tracked.store(Path(temporary, FOLDER), FOLDER)
        source = f"{tracked.artifacts}/{FOLDER}"

        def create(client: MlflowClient) -> str:
            # Asked again after an outage, it may have been carried out before.
            found = _find_version(client, trained.name, tracked.run_id, weights)
            return found or _create_version(client, trained.name, source, tracked.run_id, weights)

        version = tracked.ask(create)
    told = {RUN_TAG: tracked.name, **tags}
    for name, value in told.items():
        tracked.ask(lambda client, n=name, v=value: client.set_model_version_tag(trained.name, version, n, str(v)))
    return f"models:/{trained.name}/{version}"


def _find_version(client: MlflowClient, name: str, run_id: str, weights: str) -> str | None:
    for found in client.search_model_versions(f"name = '{name}' and run_id = '{run_id}'"):
        if found.tags.get(WEIGHTS_TAG) == weights:
            return str(found.version)
    return None


def _create_version(client: MlflowClient, name: str, source: str, run_id: str, weights: str) -> str:
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    return str(client.create_model_version(name, source, run_id=run_id, tags={WEIGHTS_TAG: weights}).version)
