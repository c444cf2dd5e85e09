"""Models that runs have made, as MLflow keeps them: files of their own, with the metrics that were measured of them.

Whatever is asked may have been carried out before without an answer, so it is asked in a way that bears repetition.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from mlflow.entities import LoggedModel, LoggedModelOutput, LoggedModelStatus, Metric
from mlflow.tracking import MlflowClient

from cocktail.tracking.inputs import digest_of
from cocktail.tracking.run import TrackedRun

_VERSIONS_TAG = "mlflow.modelVersions"
"""Tag by which MLflow's page of a model shows the versions of registered models that it is."""
_A_BATCH = 500
"""Metrics in a request."""


def find_logged_model(tracked: TrackedRun, tag: str, value: str) -> LoggedModel | None:
    """The model that a run has made and that has a tag of a value; None if there is none."""
    experiment_id = tracked.experiment_id
    models = tracked.ask(lambda client: client.search_logged_models([experiment_id], f"tags.{tag} = '{value}'"))
    return next((model for model in models if model.source_run_id == tracked.run_id), None)


def store_model(
    tracked: TrackedRun,
    write: Callable[[Path], None],
    name: str,
    step: int,
    tag: tuple[str, str],
    facts: Mapping[str, str],
) -> LoggedModel:
    """Keep the folder that `write` writes as a model that the run made at a step, unless a whole one has that tag (name
    and value) already. `facts` are shown as its params."""
    found = find_logged_model(tracked, *tag)
    if found is None:
        experiment_id = tracked.experiment_id
        found = tracked.ask(
            lambda client: client.create_logged_model(
                experiment_id, name=name, source_run_id=tracked.run_id, tags=dict([tag]), params=dict(facts)
            )
        )
    model_id = found.model_id
    if found.status != LoggedModelStatus.READY:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary, name)
            write(folder)
            tracked.ask(lambda client: client.log_model_artifacts(model_id, str(folder)))
        found = tracked.ask(lambda client: client.finalize_logged_model(model_id, LoggedModelStatus.READY))
    if model_id not in {output.model_id for output in tracked.outputs}:
        tracked.ask(lambda client: client.log_outputs(tracked.run_id, [LoggedModelOutput(model_id, step)]))
    return found


def link_version(tracked: TrackedRun, model_id: str, name: str, version: str) -> None:
    """Say on a model's page that it is this version of a registered model."""

    def add(client: MlflowClient) -> None:
        known = json.loads(client.get_logged_model(model_id).tags.get(_VERSIONS_TAG, "[]"))
        entry = {"name": name, "version": int(version)}
        if entry not in known:
            client.set_logged_model_tags(model_id, {_VERSIONS_TAG: json.dumps([*known, entry])})

    tracked.ask(add)


def link_metrics(tracked: TrackedRun, model_id: str, prefix: str, dataset: str | None, sha256: str | None) -> int:
    """Say of the run's metrics whose names begin so that they are a model's, and of which data; returns how many.

    They are sent once more as they are, with the model's id, by which MLflow knows them again.
    """
    of_data = {} if dataset is None or sha256 is None else {"name": dataset, "digest": digest_of(sha256)}

    def link(client: MlflowClient) -> int:
        points = client.get_run(tracked.run_id).data.to_proto().metrics
        linked = {
            (metric.key, metric.step, metric.timestamp) for metric in client.get_logged_model(model_id).metrics or []
        }
        metrics = [
            Metric(
                point.key,
                point.value,
                point.timestamp,
                point.step,
                model_id=model_id,
                dataset_name=of_data.get("name"),
                dataset_digest=of_data.get("digest"),
                run_id=tracked.run_id,
            )
            for point in points
            if point.key.startswith(prefix) and (point.key, point.step, point.timestamp) not in linked
        ]
        for start in range(0, len(metrics), _A_BATCH):
            client.log_batch(tracked.run_id, metrics=metrics[start : start + _A_BATCH])
        return len(metrics)

    return tracked.ask(link)
