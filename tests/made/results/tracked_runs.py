"""Runs in an MLflow database of a test's folder."""

from __future__ import annotations

from pathlib import Path

from mlflow.tracking import MlflowClient

from cocktail.tracking.database import default_tracking_uri
from cocktail.tracking.run import TrackedRun


def open_run(output: Path, name: str, experiment: str = "small") -> TrackedRun:
    uri = default_tracking_uri(str(output))
    artifacts = str(output / "artifacts")
    return TrackedRun.open(uri, artifacts, experiment=experiment, name=name, key="k", params={"model.depth": 3})


def status_of(run: TrackedRun) -> str:
    return MlflowClient(run.tracking_uri).get_run(run.run_id).info.status
