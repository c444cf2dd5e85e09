"""MLflow, and nothing else. Runs are found again by their name, so a restarted job goes on in its own run."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from cocktail.storage import join
from cocktail.types import UsageError

MAX_PARAM_LENGTH = 6000
KEY_TAG = "run_key"
_NAME_TAG, _PARENT_TAG = "mlflow.runName", "mlflow.parentRunId"
_MAX_SHOWN = 5
"""Runs that a message lists."""
_MAX_EXPERIMENTS, _MAX_CHILDREN = 10_000, 10_000


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

    def histories(self, prefixes: tuple[str, ...]) -> dict[str, list[tuple[int, float]]]:
        """The histories of the metrics whose names begin with one of the prefixes, by name."""
        names = self._client.get_run(self.run_id).data.metrics
        return {name: self.history(name) for name in sorted(names) if name.startswith(prefixes)}

    @property
    def name(self) -> str:
        return self.tags[_NAME_TAG]

    @property
    def tags(self) -> dict[str, str]:
        return self._client.get_run(self.run_id).data.tags

    @property
    def params(self) -> dict[str, str]:
        """Settings by dotted path, as text."""
        return self._client.get_run(self.run_id).data.params

    @property
    def children(self) -> list[TrackedRun]:
        """The runs that name this one as their parent, in the order in which they were started."""
        experiment = self._client.get_run(self.run_id).info.experiment_id
        found = self._client.search_runs(
            [experiment],
            f"tags.`{_PARENT_TAG}` = '{self.run_id}'",
            max_results=_MAX_CHILDREN,
            order_by=["attributes.start_time ASC"],
        )
        return [TrackedRun(self.tracking_uri, run.info.run_id) for run in found]

    @property
    def status(self) -> str:
        """As MLflow has it: RUNNING, FINISHED, FAILED, KILLED ..."""
        return self._client.get_run(self.run_id).info.status

    @property
    def seconds(self) -> float | None:
        """From start to end; None for a run without an end."""
        info = self._client.get_run(self.run_id).info
        return None if info.end_time is None else (info.end_time - info.start_time) / 1000

    def store(self, folder: Path) -> None:
        """Store a folder's files as artifacts."""
        self._client.log_artifacts(self.run_id, str(folder))

    @property
    def stored(self) -> list[str]:
        """Names of the files and folders among the artifacts, not those in folders."""
        return sorted(info.path for info in self._client.list_artifacts(self.run_id))

    def fetch(self, name: str, folder: Path) -> Path:
        """An artifact that `stored` names, copied into a local folder. Raises UsageError if the run has none."""
        stored = self.stored
        if name not in stored:
            status = self._client.get_run(self.run_id).info.status
            raise UsageError(
                f"run {self.name} ({self.run_id}, {status}) has no {name}: it has {', '.join(stored) or 'no artifacts'}"
            )
        return Path(self._client.download_artifacts(self.run_id, name, str(folder)))

    @property
    def artifacts(self) -> str:
        """Where the run's artifacts lie."""
        return self._client.get_run(self.run_id).info.artifact_uri or ""

    @contextmanager
    def closing(self) -> Iterator[None]:
        """Close the run in the end: FINISHED, or FAILED or KILLED by what was raised."""
        try:
            yield
        except BaseException as error:
            self._finish("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
            raise
        self._finish("FINISHED")

    def _finish(self, status: str) -> None:
        self._client.set_terminated(self.run_id, status=status)


def find_run(tracking_uri: str, name_or_id: str) -> TrackedRun:
    """The run of that id, or the only one of that name in all experiments.

    Raises UsageError, with the runs that there are, if there is none or more than one, and if MLflow cannot be asked.
    """
    logging.getLogger("alembic").setLevel(logging.WARNING)
    database = Path(tracking_uri.removeprefix("sqlite:///"))
    if tracking_uri.startswith("sqlite:///") and not database.exists():
        raise UsageError(f"there is no MLflow database {database}: set MLFLOW_TRACKING_URI, or give --tracking-uri")
    client = MlflowClient(tracking_uri)
    quote = '"' if "'" in name_or_id else "'"
    try:
        experiments = {
            experiment.experiment_id: experiment.name
            for experiment in client.search_experiments(max_results=_MAX_EXPERIMENTS)
        }
        found = [
            run
            for attribute in ("run_id", "run_name")
            for run in client.search_runs([*experiments], f"attributes.{attribute} = {quote}{name_or_id}{quote}")
        ]
        own = [experiment_id for experiment_id, name in experiments.items() if name == name_or_id]
        newest = [] if found else client.search_runs(own or [*experiments], max_results=_MAX_SHOWN)
    except MlflowException as error:
        raise UsageError(f"cannot look for run {name_or_id} in {tracking_uri}: {error.message}") from error
    if len(found) == 1:
        return TrackedRun(tracking_uri, found[0].info.run_id)
    shown = "; ".join(_describe(run, experiments) for run in (found or newest)[:_MAX_SHOWN])
    if found:
        raise UsageError(f"{len(found)} runs are called {name_or_id}: give an id. They are {shown}")
    where = f"the experiment {name_or_id}" if own else tracking_uri
    there_is = f"The newest in {where}: {shown}" if newest else f"There are no runs in {where}"
    raise UsageError(f"no run has the name or id {name_or_id}. {there_is}")


def _describe(run: Run, experiments: Mapping[str, str]) -> str:
    started = datetime.fromtimestamp(run.info.start_time / 1000, UTC).strftime("%Y-%m-%d %H:%M")
    return f"{run.info.run_name} ({run.info.run_id}, of {experiments[run.info.experiment_id]}, {started} UTC)"
