"""Trained models in MLflow's registry: versions of their experiment's name that anyone loads with MLflow alone."""

from __future__ import annotations

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

from cocktail.checkpoints.earlier_run import weights_hash
from cocktail.checkpoints.store import CheckpointStore, load_checkpoint, read_about, read_identity
from cocktail.inference.signature import signature_of
from cocktail.inference.trained import load_trained
from cocktail.tasks.task import TensorForm
from cocktail.tracking.run import TrackedRun

FOLDER = "model"
"""Folder among the run's artifacts."""
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


def save_model(checkpoint: str, folder: Path) -> None:
    """Write a checkpoint as an MLflow pyfunc model: our code, the weights, no pickle.

    It takes what `signature_of` says, and the names of the classes that are meant as the parameter `classes`, and gives
    answers in the order of the names: an array where the model has one input or output, several by name. Mixtures are
    float32 [B, T] at `sample_rate_hz` (in the model's metadata); with the parameter of that name, another is refused.
    """
    trained = load_trained(checkpoint)
    library = Path(__file__).parents[1]
    own = signature_of(trained)
    signature = ModelSignature(
        inputs=_schema(own.inputs),
        outputs=_schema(own.outputs),
        params=ParamSchema(
            [
                ParamSpec("classes", "string", default=[], shape=(-1,)),
                ParamSpec("num_sources", "integer", default=0),
                ParamSpec("sample_rate_hz", "integer", default=0),
            ]
        ),
    )
    needed = dict.fromkeys((*_NEEDED, *own.packages))  # each once
    with tempfile.TemporaryDirectory() as temporary, warnings.catch_warnings():
        # The signature is ours: an example would only be there to guess it from.
        warnings.filterwarnings("ignore", message=".*An input example was not provided")
        mlflow.pyfunc.save_model(
            folder,
            python_model=str(library / "inference/mlflow_model.py"),
            artifacts={"checkpoint": slim_checkpoint(checkpoint, temporary)},
            code_paths=[str(library)],
            signature=signature,
            pip_requirements=[f"{name}=={importlib.metadata.version(name)}" for name in needed],
            metadata=dict(own.metadata),
        )


def _schema(forms: Mapping[str, TensorForm]) -> Schema:
    """Tensors for MLflow, by name where there are several."""
    specs: list[ColSpec | TensorSpec] = [
        TensorSpec(np.dtype(form.dtype), form.shape, name if len(forms) > 1 else None) for name, form in forms.items()
    ]
    return Schema(specs)


def register(tracked: TrackedRun, checkpoint: str, tags: Mapping[str, Any]) -> str:
    """Store a run's checkpoint as a model among its artifacts, and register it under its experiment's name.

    A checkpoint that the run has registered already gets no second version; its tags are written anew. Returns the
    model's URI, models:/NAME/VERSION.
    """
    trained = load_trained(checkpoint)
    weights = weights_hash(trained.model.state_dict())
    version = tracked.ask(lambda client: _find_version(client, trained.name, tracked.run_id, weights))
    if version is None:
        with tempfile.TemporaryDirectory() as temporary:
            save_model(checkpoint, Path(temporary, FOLDER))
            tracked.store(Path(temporary, FOLDER), FOLDER)
        source = f"{tracked.artifacts}/{FOLDER}"

        def create(client: MlflowClient) -> str:
            # Asked again after an outage, it may have been carried out before.
            known = _find_version(client, trained.name, tracked.run_id, weights)
            return known or _create_version(client, trained.name, source, tracked.run_id, weights)

        version = tracked.ask(create)
    for name, value in {RUN_TAG: tracked.name, **tags}.items():
        tracked.ask(lambda client, n=name, v=value: client.set_model_version_tag(trained.name, version, n, str(v)))
    return f"models:/{trained.name}/{version}"


def _find_version(client: MlflowClient, name: str, run_id: str, weights: str) -> str | None:
    for version in client.search_model_versions(f"name = '{name}' and run_id = '{run_id}'"):
        if version.tags.get(WEIGHTS_TAG) == weights:
            return str(version.version)
    return None


def _create_version(client: MlflowClient, name: str, source: str, run_id: str, weights: str) -> str:
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    return str(client.create_model_version(name, source, run_id=run_id, tags={WEIGHTS_TAG: weights}).version)
