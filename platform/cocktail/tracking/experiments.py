"""Experiments in MLflow: what runs of one name belong to."""

from __future__ import annotations

from pathlib import Path

from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from cocktail.storage import is_remote

_KIND_TAG, _KIND = "mlflow.experimentKind", "custom_model_development"
"""What MLflow's page goes by when it opens an experiment: this is "Model training", with the runs and their metrics."""


def open_experiment(client: MlflowClient, name: str, location: str | None) -> str:
    """The id of the experiment of a name, which is made where there is none, with its files at a location.

    It is one of model training, whoever made it, unless it says what it is.
    """
    experiment = client.get_experiment_by_name(name)
    if experiment is not None:
        if _KIND_TAG not in experiment.tags:
            client.set_experiment_tag(experiment.experiment_id, _KIND_TAG, _KIND)
        return experiment.experiment_id
    try:
        return client.create_experiment(
            name, artifact_location=None if location is None else _unmistakable(location), tags={_KIND_TAG: _KIND}
        )
    except MlflowException as error:
        experiment = client.get_experiment_by_name(name)  # another run's job may just have made it
        if error.error_code != "RESOURCE_ALREADY_EXISTS" or experiment is None:
            raise
        return experiment.experiment_id


def _unmistakable(location: str) -> str:
    """A location of which MLflow takes no letter for anything else: a path with those of URIs becomes a URI."""
    if is_remote(location) or not {"%", "?", "#"} & set(location):
        return location
    return Path(location).absolute().as_uri()
