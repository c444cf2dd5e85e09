"""MLflow, and nothing else. Runs are known again by their name and place, so a restarted job goes on in its own run.

Whatever is asked of a server or database that does not answer waits for it (`cocktail.tracking.outages`).
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from mlflow.entities import LoggedModelOutput, Metric, Param, Run, RunTag
from mlflow.tracking import MlflowClient

from cocktail.storage import join
from cocktail.text.printable import whole_lines
from cocktail.text.redaction import redacted_uri, redacted_values
from cocktail.tracking.database import make_database
from cocktail.tracking.experiments import open_experiment
from cocktail.tracking.lease import GOING_SECONDS, held_by
from cocktail.tracking.outages import ERRORS, PATIENCE_SECONDS, OutageError, patiently
from cocktail.tracking.processes import is_gone, is_running, this_process, this_user
from cocktail.tracking.signals import told_to_end_once
from cocktail.types import UsageError

MAX_PARAM_LENGTH = 6000
KEY_TAG = "run_key"
PARENT_TAG = "mlflow.parentRunId"
STAGES_TAG = "stages.before"
"""Ids of the runs that a run goes on from as a later stage of one system, the first one first, as a JSON list."""
PLACE_TAG = "place"
"""What tells a run from those of the same name of other people, who have it in a folder of their own."""
PLACE = "place.json"
"""In the folder of a run or sweep: a name that no other folder has, by which MLflow knows the folder's run."""
PROCESS_TAG = "process"
"""The process that answers for the run's status, as JSON."""
_NAME_TAG = "mlflow.runName"
_USER_TAG = "mlflow.user"
_DESCRIPTION_TAG, _LONGEST_DESCRIPTION = "mlflow.note.content", 7500
"""MLflow keeps 8000 letters of a tag."""
_MAX_CHILDREN = 50_000

T = TypeVar("T")


class Point(NamedTuple):
    """A value of a metric. The time is part of what it is: sent again, it is the same point."""

    metric: str
    value: float
    milliseconds: int
    """Unix time."""
    step: int


def points_of(metrics: Mapping[str, float], step: int) -> list[Point]:
    """The metrics of a step, as of now."""
    now = int(time.time() * 1000)
    return [Point(name, float(value), now, step) for name, value in metrics.items()]


@dataclass
class TrackedRun:
    """One MLflow run, by an explicit client. Small enough to send to a worker.

    All but `send` and `last_points` wait for MLflow while it does not answer, and then raise OutageError.
    """

    tracking_uri: str
    run_id: str
    wait_seconds: float = PATIENCE_SECONDS
    """Time to wait for MLflow while it does not answer."""

    @classmethod
    def open(
        cls,
        tracking_uri: str,
        artifacts: str,
        *,
        experiment: str,
        name: str,
        key: str,
        params: Mapping[str, Any],
        place: str | None = None,
        parent: str | None = None,
        wait_seconds: float = PATIENCE_SECONDS,
    ) -> TrackedRun:
        """The run of that name and place in the experiment, or a new one, of which this process answers for the status.

        `artifacts` is where a database without a server keeps files; `place` is the run's folder by a name that it
        alone has, if it has one; `parent` is the id of the run that this one is nested in. A param is written once,
        without credentials. Runs of the experiment whose process has died on this host are closed. Raises UsageError
        if the run was recorded under another `key` (`cocktail.config.identity.run_key`).
        """
        logging.getLogger("alembic").setLevel(logging.WARNING)
        tags = {KEY_TAG: key, PROCESS_TAG: json.dumps(this_process()), _USER_TAG: this_user()}
        tags |= {} if place is None else {PLACE_TAG: place}
        tags |= {} if parent is None else {PARENT_TAG: parent}
        make_database(tracking_uri, wait_seconds)

        def find_or_create() -> str:
            client = MlflowClient(tracking_uri)
            location = None if tracking_uri.startswith("http") else join(artifacts, experiment)
            experiment_id = open_experiment(client, experiment, location)
            run = _open_run(client, experiment_id, name, tags)
            absent = [path for path in params if path not in run.data.params]
            written = [Param(path, redacted_uri(str(params[path]))[:MAX_PARAM_LENGTH]) for path in absent]
            client.log_batch(run.info.run_id, params=written)
            _close_abandoned(client, experiment_id)
            return run.info.run_id

        return cls(tracking_uri, patiently(tracking_uri, wait_seconds, find_or_create), wait_seconds)

    def ask(self, question: Callable[[MlflowClient], T]) -> T:
        """The answer to what is asked of MLflow, as often as need be until it answers."""
        return patiently(self.tracking_uri, self.wait_seconds, lambda: question(MlflowClient(self.tracking_uri)))

    def tag(self, tags: Mapping[str, Any]) -> None:
        """Facts that may change from one start of the job to the next, without credentials."""
        written = [RunTag(name, redacted_uri(str(value))) for name, value in tags.items()]
        self.ask(lambda client: client.log_batch(self.run_id, tags=written))

    def describe(self, text: str) -> None:
        """What stands on the run's page, in Markdown; as much of it as MLflow keeps."""
        self.tag({_DESCRIPTION_TAG: whole_lines(text, _LONGEST_DESCRIPTION)})

    def log(self, metrics: Mapping[str, float], step: int, *, once: bool = False) -> None:
        """Metrics of one step, but those whose last value is known to be this one, at this step.

        With `once`, those that have any at this step: times are never the same, and the first ones are the run's.
        """
        points = points_of(metrics, step)

        def is_known(point: Point, known: Mapping[str, tuple[int, float]]) -> bool:
            last_step, last_value = known.get(point.metric, (None, None))
            return last_step == point.step and (once or last_value == point.value)

        def send_new(client: MlflowClient) -> None:
            known = self.last_points()
            self.send([point for point in points if not is_known(point, known)])

        self.ask(send_new)

    def send(self, points: Sequence[Point]) -> None:
        """Points in one request (MLflow takes 1000). Does not wait for MLflow: raises one of `outages.ERRORS`."""
        metrics = [Metric(point.metric, point.value, point.milliseconds, point.step) for point in points]
        MlflowClient(self.tracking_uri).log_batch(self.run_id, metrics=metrics)

    def last_points(self) -> dict[str, tuple[int, float]]:
        """The last step of each metric, with its value. Does not wait for MLflow: raises one of `outages.ERRORS`."""
        data = MlflowClient(self.tracking_uri).get_run(self.run_id).data
        return {metric.key: (metric.step, metric.value) for metric in data.to_proto().metrics}

    def history(self, metric: str) -> list[tuple[int, float]]:
        """A metric's (step, value) pairs, by step."""
        points = self.ask(lambda client: client.get_metric_history(self.run_id, metric))
        return sorted((point.step, point.value) for point in points)

    def histories(self, prefixes: tuple[str, ...]) -> dict[str, list[tuple[int, float]]]:
        """The histories of the metrics whose names begin with one of the prefixes, by name."""
        return {name: self.history(name) for name in sorted(self._run().data.metrics) if name.startswith(prefixes)}

    def _run(self) -> Run:
        return self.ask(lambda client: client.get_run(self.run_id))

    @property
    def name(self) -> str:
        return self.tags[_NAME_TAG]

    @property
    def tags(self) -> dict[str, str]:
        return self._run().data.tags

    @property
    def params(self) -> dict[str, str]:
        """Settings by dotted path, as text."""
        return self._run().data.params

    @property
    def seconds(self) -> float | None:
        """Length from start to end; None for a run without an end."""
        info = self._run().info
        return None if info.end_time is None else (info.end_time - info.start_time) / 1000

    @property
    def began(self) -> datetime:
        """When it was started first, in UTC."""
        return datetime.fromtimestamp(self._run().info.start_time / 1000, UTC)

    def neighbours(self, tag: str, value: str) -> list[TrackedRun]:
        """The other runs of its experiment that have a tag of a value, the oldest first."""
        within, quote = self.experiment_id, '"' if "'" in value else "'"
        tagged, order = f"tags.`{tag}` = {quote}{value}{quote}", ["attributes.start_time ASC"]
        runs = self.ask(lambda client: client.search_runs([within], tagged, order_by=order))
        others = [run.info.run_id for run in runs if run.info.run_id != self.run_id]
        return [TrackedRun(self.tracking_uri, run_id, self.wait_seconds) for run_id in others]

    def store(self, folder: Path, inside: str | None = None) -> None:
        """Store a folder's files as artifacts, or inside a folder of them."""
        self.ask(lambda client: client.log_artifacts(self.run_id, str(folder), inside))

    def store_json(self, name: str, values: dict[str, Any]) -> None:
        """Store plain values as an artifact, without credentials."""
        self.ask(lambda client: client.log_dict(self.run_id, redacted_values(values), name))

    @property
    def stored(self) -> list[str]:
        """Names of the files and folders among the artifacts, not those in folders."""
        return sorted(info.path for info in self.ask(lambda client: client.list_artifacts(self.run_id)))

    def fetch(self, name: str, folder: Path) -> Path:
        """An artifact that `stored` names, copied into a local folder. Raises UsageError if the run has none."""
        stored = self.stored
        if name not in stored:
            status = self._run().info.status
            raise UsageError(
                f"run {self.name} ({self.run_id}, {status}) has no {name}: it has {', '.join(stored) or 'no artifacts'}"
            )
        return Path(self.ask(lambda client: client.download_artifacts(self.run_id, name, str(folder))))

    @property
    def status(self) -> str:
        """RUNNING, FINISHED, FAILED or KILLED."""
        return self._run().info.status

    @property
    def children(self) -> list[TrackedRun]:
        """The runs that name this one as their parent, in the order in which they were started."""
        within = self.experiment_id
        nested, order = f"tags.`{PARENT_TAG}` = '{self.run_id}'", ["attributes.start_time ASC"]
        runs = self.ask(lambda client: client.search_runs([within], nested, max_results=_MAX_CHILDREN, order_by=order))
        return [TrackedRun(self.tracking_uri, run.info.run_id, self.wait_seconds) for run in runs]

    @property
    def earlier_stages(self) -> list[TrackedRun]:
        """The runs of the stages before, of a system that learns in stages, the first one first."""
        ids = json.loads(self.tags.get(STAGES_TAG, "[]"))
        return [TrackedRun(self.tracking_uri, run_id, self.wait_seconds) for run_id in ids]

    @property
    def experiment_id(self) -> str:
        """Id of the experiment that the run is of."""
        return self._run().info.experiment_id

    @property
    def page(self) -> str:
        """Address of the run's page: of a database, once `mlflow ui` runs on this machine."""
        server = self.tracking_uri if self.tracking_uri.startswith("http") else "http://127.0.0.1:5000"
        return f"{redacted_uri(server).rstrip('/')}/#/experiments/{self.experiment_id}/runs/{self.run_id}"

    @property
    def outputs(self) -> list[LoggedModelOutput]:
        """The models that the run has made."""
        made = self._run().outputs
        return [] if made is None else list(made.model_outputs)

    @property
    def artifacts(self) -> str:
        """Location of the run's artifacts."""
        return self._run().info.artifact_uri or ""

    @contextmanager
    def closing(self) -> Iterator[None]:
        """Close the run in the end: FINISHED, or FAILED or KILLED by what was raised, by Ctrl-C or by SIGTERM.

        What was raised is not held up by an outage that caused it, nor by one while the process is told to end:
        then the next job that opens a run of the experiment on this host closes this one. Told to end again, the
        process first closes the run. One that another process answers for by now is left alone.
        """
        with told_to_end_once():
            try:
                yield
            except BaseException as error:
                told_to_end = isinstance(error, KeyboardInterrupt)
                in_haste = told_to_end or isinstance(error, OutageError)
                last = TrackedRun(self.tracking_uri, self.run_id, 0.0 if in_haste else self.wait_seconds)
                try:
                    if last.tags.get(PROCESS_TAG) == json.dumps(this_process()):
                        last.finish("KILLED" if told_to_end else "FAILED")
                except (UsageError, *ERRORS) as outage:
                    print(f"run {self.run_id} could not be closed: {outage}", flush=True)
                raise
            self.finish("FINISHED")

    def finish(self, status: str, tags: Mapping[str, Any] | None = None) -> None:
        """End the run from wherever: FINISHED, FAILED or KILLED, with tags that say why.

        A run that has ended so keeps the time of its end.
        """
        if tags:
            self.tag(tags)

        def end(client: MlflowClient) -> None:
            if client.get_run(self.run_id).info.status != status:
                client.set_terminated(self.run_id, status=status)

        self.ask(end)


def _open_run(client: MlflowClient, experiment_id: str, name: str, tags: Mapping[str, str]) -> Run:
    known = {_NAME_TAG: name, **{tag: tags[tag] for tag in (PLACE_TAG,) if tag in tags}}
    same = " and ".join(f"tags.`{tag}` = '{value}'" for tag, value in known.items())
    runs = client.search_runs([experiment_id], same, max_results=1)
    if not runs:
        return client.create_run(experiment_id, run_name=name, tags=dict(tags))
    recorded = runs[0].data.tags.get(KEY_TAG)
    if recorded != tags[KEY_TAG]:
        raise UsageError(
            f"MLflow has a run {name} of other settings (key {recorded}, not {tags[KEY_TAG]}): "
            "choose another --run-name"
        )
    _require_alone(runs[0])
    client.log_batch(runs[0].info.run_id, tags=[RunTag(key, value) for key, value in tags.items()])
    client.update_run(runs[0].info.run_id, status="RUNNING")
    return runs[0]


def _require_alone(run: Run) -> None:
    """Two processes in one run would write over each other. One that was just killed may take a moment to go."""
    process = json.loads(run.data.tags.get(PROCESS_TAG, "null"))
    if process is None or run.info.status != "RUNNING":
        return
    deadline = time.monotonic() + GOING_SECONDS
    while is_running(process):
        if time.monotonic() > deadline:
            raise UsageError(held_by(f"run {run.info.run_name}", process))
        time.sleep(0.5)


def _close_abandoned(client: MlflowClient, experiment_id: str) -> None:
    """Nobody else closes a run whose process was killed."""
    for run in client.search_runs([experiment_id], "attributes.status = 'RUNNING'"):
        process = json.loads(run.data.tags.get(PROCESS_TAG, "null"))
        if process is not None and is_gone(process):
            client.set_terminated(run.info.run_id, status="KILLED")
            print(
                f"run {run.info.run_name} ({run.info.run_id}) was RUNNING without its process: now KILLED", flush=True
            )
