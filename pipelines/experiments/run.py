"""The steps that every training job takes: data, training, scores, report."""

from __future__ import annotations

import dataclasses
import json
import statistics
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from cocktail.checkpoints.store import step_of
from cocktail.cluster.placement import require_place
from cocktail.config.experiment import Experiment
from cocktail.config.settings import flatten
from cocktail.inference.registry import register
from cocktail.inference.trained import load_trained
from cocktail.storage import exists, join, write_atomic
from cocktail.text.printable import on_lines
from cocktail.text.redaction import redacted_command, redacted_uri
from cocktail.tracking.inputs import log_data
from cocktail.tracking.lease import Lease
from cocktail.tracking.run import TrackedRun
from cocktail.train.ray_train import fit, require_continuable
from cocktail.types import UsageError
from pipelines.experiments.locations import FINISHED, place_of
from pipelines.experiments.planned import PlannedRun
from pipelines.experiments.provenance import (
    ENVIRONMENT,
    STARTS,
    TEST_DATA,
    TEST_MANIFEST_HASH,
    environment,
    machine_in_words,
    of_all_starts,
    provenance,
    training_data,
)
from pipelines.experiments.scoring import Scoring


@dataclasses.dataclass(frozen=True, kw_only=True)
class PartOf:
    """What a run is a part of."""

    parent: str | None = None
    """Id of the MLflow run of the whole, if it has one."""
    tags: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """What the run is in it."""


def run(experiment: Experiment, part_of: PartOf | None = None) -> TrackedRun:
    """Train, evaluate and report; print where everything is."""
    clock = Clock()
    planned = PlannedRun.of(experiment)
    clock.lap("data")
    require_continuable(planned.folder, planned.identity)
    require_place(planned.training_demands)
    require_place(planned.test_demands)
    with alone_in(planned):
        tracked = open_run(planned, part_of)
        with tracked.closing():
            tag_origin(planned, tracked, part_of)
            doing = f"training {planned.num_steps} steps" if planned.num_steps else "nothing to train"
            print(f"{doing}, in {planned.folder}", flush=True)
            spectra = planned.class_spectra()
            clock.lap("class_spectra")
            checkpoint = fit(planned.training_run(tracked, spectra))
            clock.lap("training")
            test = test_of(planned, checkpoint)
            tracked.tag({"checkpoint": checkpoint, **test.tags})
            log_data(tracked, [test.tested_on])
            tracked.store_json(ENVIRONMENT, {**environment(), "precision": test.precision})
            results = test.score()
            clock.lap("evaluation")
            num_steps = step_of(checkpoint)  # early stopping may have ended training before its last one
            recorded = test.record(results, tracked, num_steps)
            model_uri = register(tracked, checkpoint, test.scored(recorded))
            report = test.report(results, recorded, tracked, num_steps, planned.batches_per_epoch)
            clock.lap("report")
            rates = speeds(tracked, len(planned.test_list) / clock.seconds["evaluation"])
            times = {f"seconds/{name}": value for name, value in clock.seconds.items()}
            tracked.log({**times, **rates, STARTS: float(tracked.tags[STARTS])}, num_steps, once=True)
        finished = {"mlflow_run": tracked.run_id, "checkpoint": checkpoint}
        write_atomic(join(planned.folder, FINISHED), json.dumps(finished).encode())
    print(
        f"\n{on_lines(report.text)}\n\n"
        f"time: {', '.join(f'{name} {seconds:.1f} s' for name, seconds in clock.seconds.items())}\n"
        f"speed: {', '.join(f'{value:.2f} {name}' for name, value in rates.items())}\n"
        f"MLflow: {redacted_uri(planned.tracking_uri)} "
        f"({redacted_command(['mlflow', 'ui', '--backend-store-uri', planned.tracking_uri])})\n"
        f"page: {tracked.page}\n"
        f"started from: {planned.initial.description}\n"
        f"checkpoint: {checkpoint}\n"
        f"model: {model_uri}\n"
        f"table, figures and sounds: {tracked.artifacts}"
    )
    return tracked


@contextmanager
def alone_in(planned: PlannedRun) -> Iterator[None]:
    """No other process works in a planned run's folder meanwhile.

    Raises UsageError while one does, and if one has finished the run since it was planned.
    """
    chosen = planned.experiment.run_name is not None
    finished = join(planned.folder, FINISHED)
    to_score_again = chosen and exists(finished)
    with Lease(planned.folder, planned.name):
        if not to_score_again and exists(finished):
            then = "scores it again" if chosen else "starts another run"
            raise UsageError(f"run {planned.name} was finished by another process meanwhile: the same command {then}")
        yield


def open_run(planned: PlannedRun, part_of: PartOf | None) -> TrackedRun:
    """The MLflow run of a planned run, with the settings of its training for parameters."""
    experiment = planned.experiment
    return TrackedRun.open(
        planned.tracking_uri,
        join(experiment.output, "artifacts"),
        experiment=experiment.name,
        name=planned.name,
        key=planned.key,
        place=place_of(planned.folder),
        params=params_of(experiment),
        parent=part_of.parent if part_of else None,
        wait_seconds=60 * experiment.tracking_wait_minutes,
    )


def params_of(experiment: Experiment) -> dict[str, Any]:
    """What a run's params in MLflow are: the settings but those of its test, which may change from start to start."""
    settings = flatten(dataclasses.asdict(experiment))
    return {path: value for path, value in settings.items() if not path.startswith("evaluation.")}


def tag_origin(planned: PlannedRun, tracked: TrackedRun, part_of: PartOf | None) -> None:
    """Record what a run is made of and tested on, and where it runs; as tags, which may change when the job starts
    again."""
    where = environment()
    start = {**provenance(planned.manifest, planned.test_list), "machine": machine_in_words(where)}
    tests = flatten({"evaluation": dataclasses.asdict(planned.experiment.evaluation)})
    tracked.tag(
        {
            **of_all_starts(start, tracked.tags),
            **tests,
            **(part_of.tags if part_of else {}),
            "initial_weights": planned.initial.description,
            "executor": planned.source.executor,
            TEST_DATA: planned.test_manifest.folder,
            TEST_MANIFEST_HASH: planned.test_manifest.root_hash,
        }
    )
    tracked.store_json(ENVIRONMENT, where)
    if planned.experiment.model.trains:
        log_data(tracked, [training_data(planned.manifest, planned.experiment.training.split)])


def test_of(planned: PlannedRun, checkpoint: str) -> Scoring:
    """The test of a planned run's checkpoint."""
    experiment = planned.experiment
    return Scoring(
        checkpoint=checkpoint,
        trained=load_trained(checkpoint),
        manifest=planned.test_manifest,
        mixtures=planned.test_list,
        new_classes=planned.new_classes,
        mixing=experiment.evaluation.test_mixing(experiment.mixing),
        evaluation=experiment.evaluation,
        resources=experiment.resources,
        overlap=planned.overlap,
    )


def speeds(tracked: TrackedRun, evaluation_mixtures_per_second: float) -> dict[str, float]:
    """The run's typical speeds: medians over its log lines, where it has any."""
    medians = {
        f"training_{name}": statistics.median(value for _, value in history)
        for name in ("seconds_per_step", "mixtures_per_second")
        if (history := tracked.history(name))
    }
    return {**medians, "evaluation_mixtures_per_second": evaluation_mixtures_per_second}


class Clock:
    """Wall time of the parts of a job."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        """The time since the last lap belongs to this part."""
        now = time.perf_counter()
        self.seconds[name] = now - self._last
        self._last = now
