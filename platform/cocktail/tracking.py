"""MLflow, and nothing else. Runs are found again by their name, so a restarted job goes on in its own run."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow.entities import Metric, Param, RunTag
from mlflow.tracking import MlflowClient

from cocktail.storage import join
from cocktail.types import UsageError

MAX_PARAM_LENGTH = 6000
KEY_TAG = "run_key"


def default_tracking_uri(output: str) -> str:
    """The database in the output folder. Raises UsageError if that is not on a local disk."""
    if "://" in output:
        raise UsageError(
            f"the output {output} cannot hold the MLflow database: set MLFLOW_TRACKING_URI to a server, "
            "or give --tracking-uri"
        )
    folder = Path(output).expanduser().absolute()
    folder.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{folder / 'mlflow.db'}"


@dataclass
class TrackedRun:
    """One MLflow run, by an explicit client. Small enough to send to a worker."""

    tracking_uri: str
    run_id: str

    @classmethod
    def open(
        cls, tracking_uri: str, artifacts: str, *, experiment: str, name: str, key: str, params: Mapping[str, Any]
    ) -> TrackedRun:
        """The run of that name in the experiment, or a new one.

        `artifacts` is where a database without a server keeps files. Params are written once, when the run is new.
        Raises UsageError if the run was recorded under another `key` (`cocktail.config.run_key`).
        """
        logging.getLogger("alembic").setLevel(logging.WARNING)
        client = MlflowClient(tracking_uri)
        found = client.get_experiment_by_name(experiment)
        if found is None:
            location = None if tracking_uri.startswith("http") else join(artifacts, experiment)
            experiment_id = client.create_experiment(experiment, artifact_location=location)
        else:
            experiment_id = found.experiment_id
        runs = client.search_runs([experiment_id], f"tags.`mlflow.runName` = '{name}'", max_results=1)
        if runs:
            recorded = runs[0].data.tags.get(KEY_TAG)
            if recorded != key:
                raise UsageError(
                    f"MLflow has a run {name} of other settings (key {recorded}, not {key}): choose another --run-name"
                )
            client.update_run(runs[0].info.run_id, status="RUNNING")
            return cls(tracking_uri, runs[0].info.run_id)
        run = client.create_run(experiment_id, run_name=name, tags={KEY_TAG: key})
        written = [Param(path, str(value)[:MAX_PARAM_LENGTH]) for path, value in params.items()]
        client.log_batch(run.info.run_id, params=written)
        return cls(tracking_uri, run.info.run_id)

    @property
    def _client(self) -> MlflowClient:
        return MlflowClient(self.tracking_uri)

    def tag(self, tags: Mapping[str, Any]) -> None:
        """Facts that may change from one start of the job to the next."""
        self._client.log_batch(self.run_id, tags=[RunTag(name, str(value)) for name, value in tags.items()])

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Metrics of one step, in one request."""
        now = int(time.time() * 1000)
        self._client.log_batch(self.run_id, metrics=[Metric(name, value, now, step) for name, value in metrics.items()])

    def history(self, metric: str) -> list[tuple[int, float]]:
        """A metric's (step, value) pairs, by step."""
        points = self._client.get_metric_history(self.run_id, metric)
        return sorted((point.step, point.value) for point in points)

    def store(self, folder: Path) -> None:
        """Store a folder's files as artifacts."""
        self._client.log_artifacts(self.run_id, str(folder))

    @property
    def artifacts(self) -> str:
        """Where the run's artifacts lie."""
        return self._client.get_run(self.run_id).info.artifact_uri or ""

    def finish(self, status: str) -> None:
        """Close the run: FINISHED, FAILED or KILLED."""
        self._client.set_terminated(self.run_id, status=status)
