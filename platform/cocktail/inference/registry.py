"""Trained models in MLflow's registry: versions of their experiment's name that anyone loads with MLflow alone."""

from __future__ import annotations

import functools
import importlib.metadata
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import mlflow.pyfunc
import numpy as np
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.tracking import MlflowClient
from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema, TensorSpec

from cocktail.checkpoints.earlier_run import weights_hash
from cocktail.checkpoints.store import CheckpointStore, load_checkpoint, read_about, read_identity
from cocktail.inference.signature import example_of, signature_of
from cocktail.inference.trained import load_trained
from cocktail.tasks.task import TensorForm
from cocktail.text.printable import whole_lines
from cocktail.tracking.inputs import UsedData
from cocktail.tracking.logged_models import link_metrics, link_version, store_model
from cocktail.tracking.run import TrackedRun

MODEL = "model"
"""Name of the model among those that a run has made."""
WEIGHTS_TAG = "weights_sha256"
RUN_TAG = "run_name"
SCORE_TAG, SCORE_NAME_TAG, TEST_TAG = "headline_score", "headline_score_name", "test_list_hash"
"""Tags of a version: how good it is, by which score, on which mixtures."""
BEST = "best"
"""Alias of the version of the highest score."""
_LONGEST_DESCRIPTION = 5000
"""Letters that MLflow keeps of a version's description."""
_NEEDED = ("mlflow", "torch", "numpy", "scipy", "pyarrow", "safetensors", "tyro")
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
    An example of all that is stored with it.
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
    inputs, params = example_of(trained)
    example = inputs if len(inputs) > 1 else next(iter(inputs.values()))
    with tempfile.TemporaryDirectory() as temporary:
        mlflow.pyfunc.save_model(
            folder,
            python_model=str(library / "inference/mlflow_model.py"),
            artifacts={"checkpoint": slim_checkpoint(checkpoint, temporary)},
            code_paths=[str(library)],
            signature=signature,
            input_example=(example, params),
            pip_requirements=[f"{name}=={importlib.metadata.version(name)}" for name in needed],
            metadata=dict(own.metadata),
        )


def _schema(forms: Mapping[str, TensorForm]) -> Schema:
    """Tensors for MLflow, by name where there are several."""
    specs: list[ColSpec | TensorSpec] = [
        TensorSpec(np.dtype(form.dtype), form.shape, name if len(forms) > 1 else None) for name, form in forms.items()
    ]
    return Schema(specs)


@dataclass(frozen=True, kw_only=True)
class Scored:
    """What a checkpoint's test said of it, where it is registered."""

    headline: Mapping[str, str] = field(default_factory=dict)
    """The few scores that say how good it is, by name, the first of them first; higher is better."""
    test_list_hash: str = ""
    text: str = ""
    """Tables of scores, in Markdown."""
    tested_on: UsedData | None = None


def register(tracked: TrackedRun, checkpoint: str, scored: Scored) -> str:
    """Keep a run's checkpoint as a model that the run has made, with the run's scores, and register it under its
    experiment's name.

    A checkpoint that the run has registered already gets no second version; its tags and description are written anew.
    The alias `best` goes to the version of the highest headline score. Returns the model's URI, models:/NAME/VERSION.
    """
    trained = load_trained(checkpoint)
    weights = weights_hash(trained.model.state_dict())
    version = tracked.ask(lambda client: _find_version(client, trained.name, tracked.run_id, weights))
    model = store_model(
        tracked,
        functools.partial(save_model, checkpoint),
        MODEL,
        load_checkpoint(checkpoint).step,
        (WEIGHTS_TAG, weights),
        {"num_classes": str(len(trained.classes)), "sample_rate_hz": str(trained.mixing.sample_rate_hz)},
    )
    if version is None:
        source, model_id = model.artifact_location, model.model_id

        def create(client: MlflowClient) -> str:
            # Asked again after an outage, it may have been carried out before.
            known = _find_version(client, trained.name, tracked.run_id, weights)
            return known or _create_version(client, trained.name, source, tracked.run_id, model_id, weights)

        version = tracked.ask(create)
    link_version(tracked, model.model_id, trained.name, version)
    data = scored.tested_on
    link_metrics(tracked, model.model_id, "test/", data and data.name, data and data.sha256)
    _tell(tracked, trained.name, version, scored)
    return f"models:/{trained.name}/{version}"


def _tell(tracked: TrackedRun, name: str, version: str, scored: Scored) -> None:
    """Say of a version how good it is, and make it the best if it is."""
    tags: dict[str, str] = {RUN_TAG: tracked.name, **scored.headline}
    if scored.headline:
        score_name, score = next(iter(scored.headline.items()))
        tags |= {SCORE_TAG: score, SCORE_NAME_TAG: score_name, TEST_TAG: scored.test_list_hash}
    for tag, value in tags.items():
        tracked.ask(lambda client, t=tag, v=value: client.set_model_version_tag(name, version, t, v))
    description = whole_lines(scored.text, _LONGEST_DESCRIPTION)
    tracked.ask(lambda client: client.update_model_version(name, version, description))
    if scored.headline:
        tracked.ask(lambda client: _choose_best(client, name, version))


def _choose_best(client: MlflowClient, name: str, version: str) -> None:
    """Give the alias `best` to a version, unless another has it that is as good or better on the same mixtures, or was
    scored on others: these say nothing of which is better."""
    tags = client.get_model_version(name, version).tags
    holder = client.get_registered_model(name).aliases.get(BEST)
    if holder is not None and str(holder) != version:
        theirs = client.get_model_version(name, str(holder)).tags
        if theirs.get(TEST_TAG) != tags[TEST_TAG]:
            print(
                f"models:/{name}@{BEST} stays version {holder}: version {version} was scored on other mixtures",
                flush=True,
            )
            return
        if float(theirs.get(SCORE_TAG, "-inf")) >= float(tags[SCORE_TAG]):
            return
    client.set_registered_model_alias(name, BEST, version)


def _find_version(client: MlflowClient, name: str, run_id: str, weights: str) -> str | None:
    for version in client.search_model_versions(f"name = '{name}' and run_id = '{run_id}'"):
        if version.tags.get(WEIGHTS_TAG) == weights:
            return str(version.version)
    return None


def _create_version(client: MlflowClient, name: str, source: str, run_id: str, model_id: str, weights: str) -> str:
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    tags = {WEIGHTS_TAG: weights}
    return str(client.create_model_version(name, source, run_id=run_id, tags=tags, model_id=model_id).version)
