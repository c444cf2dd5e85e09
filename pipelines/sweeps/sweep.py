"""A sweep: trials of one experiment under Ray Tune, each an ordinary run, in an MLflow run of the whole."""

from __future__ import annotations

import functools
import json
import shlex
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cocktail.cluster.connection import connect, exit_interrupted, submission_id
from cocktail.config.experiment import Experiment
from cocktail.config.identity import run_key
from cocktail.storage import exists, join, require_writable, write_atomic
from cocktail.studies.paper import PAPER_NAME, Paper
from cocktail.text.redaction import redacted_command, redacted_uri
from cocktail.tracking.database import default_tracking_uri, require_usable
from cocktail.tracking.lease import Lease
from cocktail.tracking.outages import OutageError
from cocktail.tracking.run import STAGES_TAG, TrackedRun
from cocktail.train.ray_train import uses_gpus
from cocktail.train.ray_tune import ENDED, EarlyStopping, TrialState, run_trials, trials_that_fit
from cocktail.types import UsageError
from pipelines.embedded.stand_in import open_data
from pipelines.experiments.locations import FINISHED, initial_folder, place_of, with_whole_paths
from pipelines.experiments.planned import initial_weights
from pipelines.experiments.report_edge import reported
from pipelines.experiments.resources import executor_of, test_demands, training_demands
from pipelines.experiments.run import params_of
from pipelines.experiments.stages import stages_from
from pipelines.shards.manifest import Manifest
from pipelines.sweeps.grids import Grid, PlannedTrial, axis, combine, named, parse_axis, plan_trials
from pipelines.sweeps.options import PLAN, SweepOptions, key_of, require_same, sweep_name
from pipelines.sweeps.progress import progress_table, score_table
from pipelines.sweeps.report import store_sweep_report
from pipelines.sweeps.trials import (
    LABEL_TAG,
    STATUS_TAG,
    num_steps_of,
    recorded,
    run_trial,
    shared_settings,
    steps_of,
    tags_of,
)

SHOW_SECONDS, CHANGE_SECONDS = 30.0, 2.0
"""The table is shown so often, and so soon after a trial's status has changed: changes come in groups."""
_STOPPED_EARLY = "stopped early at step "
_GRACE_SHARE = 9
_AT_ONCE_SECONDS = 10.0
"""How long MLflow is waited for while trials train."""


def sweep(
    experiment_type: Any, base: Experiment, grids: Sequence[Grid], options: SweepOptions, paper: Paper | None = None
) -> None:
    """Run what is left of a sweep over settings of one experiment and report on it, beside the paper that it is
    recorded with. Ends as `run_planned` does."""
    axes = [parse_axis(text) for text in options.over]
    axes += [axis("seed", [str(seed) for seed in options.seeds])] if options.seeds else []
    grids = combine(grids, axes)
    base = with_whole_paths(base)
    planned, rows = plan_trials(experiment_type, base, grids)
    run_planned(base, planned, list(zip(grids, rows, strict=True)), options, paper)


def run_planned(
    base: Experiment,
    planned: Sequence[PlannedTrial],
    grids: Sequence[tuple[Grid, Sequence[PlannedTrial]]],
    options: SweepOptions,
    paper: Paper | None = None,
) -> None:
    """Run what is left of trials that share `base`'s name, output and tracking, and report on them by grids, each with
    its rows' trials. Exits with status 1 if a trial failed, with 130 if stopped.

    Raises UsageError, before anything is recorded, for what no trial could do.
    """
    if base.run_name is not None:
        raise UsageError("each trial has a run name of its own: give --sweep-name in place of --run-name")
    for trial in planned:
        if trial.stages:
            stages_from(trial.experiment, trial.stages)
    try:
        tracking_uri = base.tracking_uri or default_tracking_uri(base.output)
        require_usable(tracking_uri)
        require_writable(base.output)
        connect(tracking_uri, show_workers=False)
        phases = []
        alike = {(each.resources, each.mixing): each for each in (trial.experiment for trial in planned)}
        for (resources, _), experiment in alike.items():
            gpus = uses_gpus(resources)
            phases += [training_demands(resources, gpus, executor_of(experiment, gpus)), test_demands(resources, gpus)]
        at_once = trials_that_fit(phases, most=options.max_concurrent)
        with _Sweep.opened(base, planned, options, tracking_uri) as whole:
            whole.recall()
            varied = [grid.paths for grid, _ in grids]
            whole.tracked.tag(
                {"sweep.grid": json.dumps(varied), "sweep.trials": len(planned), "command": redacted_command(sys.argv)}
            )
            if paper is not None:
                whole.tracked.store_json(PAPER_NAME, paper.to_record())
            whole.run(at_once, options)
            whole.report(grids)
            failed = [f"{trial.label} ({trial.error})" for trial in whole.states if trial.status == "failed"]
            if failed:
                message = f"{len(failed)} of {len(planned)} trials failed: {'; '.join(failed)}"
                print(f"error: {message}. The same command tries them again", file=sys.stderr)
                sys.exit(1)
    except KeyboardInterrupt:
        print("\nstopped: the same command goes on with what is left", file=sys.stderr)
        exit_interrupted()


@dataclass(kw_only=True)
class _Sweep:
    """A sweep that is open in MLflow."""

    name: str
    folder: str
    tracked: TrackedRun
    planned: dict[str, PlannedTrial]
    """By label; their experiments have run names and data."""
    keys: dict[str, str]
    """Of their runs, by label (`cocktail.config.identity.run_key`)."""
    states: list[TrialState]

    @classmethod
    @contextmanager
    def opened(
        cls, base: Experiment, planned: Sequence[PlannedTrial], options: SweepOptions, tracking_uri: str
    ) -> Iterator[_Sweep]:
        """The sweep of these trials, with what is recorded of it, made if there is none; closed in the end, and marked
        as finished if nothing was raised. No other process works at it meanwhile.

        Raises UsageError if one of that name had other trials, and while another process works at it.
        """
        manifests: dict[tuple[str | None, int], Manifest] = {}
        trials, keys = [], {}
        for trial in planned:
            experiment = with_whole_paths(trial.experiment)  # grids may name files, too
            needs = (experiment.data, experiment.mixing.sample_rate_hz)
            if needs not in manifests:  # once, here: trials would make the same corpus at the same time
                manifests[needs] = open_data(experiment, tracking_uri)
            given = replace(experiment, data=manifests[needs].folder, tracking_uri=tracking_uri)
            trials.append(replace(trial, experiment=given))
            initial = initial_weights(given, manifests[needs].classes)
            initial.keep(initial_folder(given))  # trials on other nodes find what this machine has
            keys[trial.label] = run_key(given, manifests[needs].root_hash, initial.sha256)
        key = key_of(trials, keys, options)
        name = sweep_name(base, key, options)
        folder = join(base.output, "sweeps", name)
        require_same(folder, key, keys)
        with Lease(folder, name, of="sweep", option="--sweep-name"):
            tracked = TrackedRun.open(
                tracking_uri,
                join(base.output, "artifacts"),
                experiment=base.name,
                name=name,
                key=key,
                place=place_of(folder),
                params=shared_settings([base, *(trial.experiment for trial in planned)]),
                wait_seconds=60 * base.tracking_wait_minutes,
            )
            write_atomic(join(folder, PLAN), json.dumps({"key": key, "trials": keys}, indent=1).encode())
            whole = cls(
                name=name,
                folder=folder,
                tracked=tracked,
                planned={trial.label: trial for trial in named(trials, name)},
                keys=keys,
                states=[TrialState(label=trial.label) for trial in trials],
            )
            with tracked.closing():
                yield whole
            whole.mark_finished()

    @property
    def children(self) -> dict[str, TrackedRun]:
        """The trials' MLflow runs, by label: of those that have one and could say so before they were killed. Of
        stages, that of the last one that has begun."""
        tagged = [(child.tags, child) for child in self.tracked.children]
        return {tags[LABEL_TAG]: child for tags, child in tagged if LABEL_TAG in tags}

    def recall(self) -> None:
        """Bring the states up to what is recorded, what is finished and what was stopped early, and say so of them."""
        children = self.children
        for state in self.states:
            experiment, child = self.planned[state.label].experiment, children.get(state.label)
            if child is None:
                continue
            said = child.tags.get(STATUS_TAG, "")
            if exists(join(experiment.output, "runs", str(experiment.run_name), FINISHED)):
                state.status, state.metrics = "finished", recorded(child, experiment.name)
            elif said.startswith(_STOPPED_EARLY):
                step = float(said.removeprefix(_STOPPED_EARLY))
                state.status, state.metrics = "stopped early", {**recorded(child, experiment.name), "step": step}
            else:
                last = [child] if self.has_more_stages(state.label, child) else []
                state.earlier_steps = steps_of([*child.earlier_stages, *last])
        self.settle([state for state in self.states if state.status in ENDED])

    def run(self, at_once: int, options: SweepOptions) -> None:
        """Run what is left."""
        left = [state.label for state in self.states if state.status not in ENDED]
        print(f"sweep {self.name}: {len(self.states)} trials, {len(left)} to run, {at_once} at a time", flush=True)
        if not left:
            print("it is finished: its table is made again (--again runs another)", flush=True)
            return
        here = {"command": redacted_command(sys.argv), "ray_job": submission_id() or "none"}
        board = _Board(self.states, {label: trial.overrides for label, trial in self.planned.items()})

        def on_change(state: TrialState) -> None:
            board.is_due = True
            if state.status in ENDED:
                self.settle_at_once(state)

        try:
            run_trials(
                self.states,
                functools.partial(run_trial, planned=self.planned, parent=self.tracked.run_id, here=here),
                folder=join(self.folder, "tune"),
                at_once=at_once,
                early_stopping=self.early_stopping(options) if options.asha else None,
                on_change=on_change,
                on_step=board.show_if_due,
            )
        finally:
            # Again, after all processes have ended: one that was being stopped may have said something else, and MLflow
            # may have been away.
            self.settle(self.states)

    def early_stopping(self, options: SweepOptions) -> EarlyStopping:
        """ASHA as the options have it, with what the trials reported before this start."""
        experiments = [trial.experiment for trial in self.planned.values()]
        held_out = all(experiment.training.validation_split for experiment in experiments)
        metric = options.asha_metric or ("validation/total" if held_out else "loss/total")
        grace = options.asha_grace_steps or max(min(map(num_steps_of, experiments)) // _GRACE_SHARE, 1)
        print(f"ASHA compares {metric} after {grace} steps for the first time", flush=True)
        return EarlyStopping(
            metric=metric,
            grace_steps=grace,
            reduction_factor=options.asha_reduction_factor,
            earlier={label: child.history(metric) for label, child in self.children.items()},
        )

    def settle(self, states: Sequence[TrialState]) -> None:
        """Say in MLflow how trials stand: what was stopped could not. One that has not ended is KILLED, to go on."""
        children = self.children
        for state in states:
            child = children.get(state.label)
            before = [] if child is None else child.earlier_stages
            if child is not None and self.has_more_stages(state.label, child):
                child, before = None, [*before, child]
            if child is None and state.status == "failed":  # before it had a run
                child = self.record(state.label, before)
            for stage in before if state.status in ENDED else []:
                stage.tag({STATUS_TAG: "finished"})
            if child is None:
                continue
            if state.status in ENDED:
                said = {"stopped early": f"{_STOPPED_EARLY}{state.step}", "failed": f"failed: {state.error}"}
                child.tag({STATUS_TAG: said.get(state.status, state.status)})
            if state.status != "finished":
                child.finish("FAILED" if state.status == "failed" else "KILLED")

    def has_more_stages(self, label: str, child: TrackedRun) -> bool:
        """Whether a run is that of a finished stage before the last of a trial, of which the next has no run."""
        trial = self.planned[label]
        return bool(trial.stages) and child.name != trial.experiment.run_name and child.status == "FINISHED"

    def settle_at_once(self, state: TrialState) -> None:
        """Settle a trial while others train: an outage may neither hold these up nor end them. In the end all are."""
        seconds = min(self.tracked.wait_seconds, _AT_ONCE_SECONDS)
        try:
            replace(self, tracked=replace(self.tracked, wait_seconds=seconds)).settle([state])
        except OutageError as outage:
            print(f"that {state.label} is {state.status} is said in MLflow later: {outage}", flush=True)

    def record(self, label: str, before: Sequence[TrackedRun]) -> TrackedRun:
        """The MLflow run of a trial that failed before it opened it, after the runs of these stages.

        It is the run that was to come, and goes on. Only that of a later stage, whose key is by what the stage before
        has learned, is another.
        """
        trial = self.planned[label]
        experiment = stages_from(trial.experiment, trial.stages)[len(before)] if trial.stages else trial.experiment
        place = place_of(join(experiment.output, "runs", str(experiment.run_name)))
        child = TrackedRun.open(
            self.tracked.tracking_uri,
            join(experiment.output, "artifacts"),
            experiment=experiment.name,
            name=str(experiment.run_name),
            key=self.keys[label],
            place=f"{place}, failed" if before else place,
            params=params_of(experiment),
            parent=self.tracked.run_id,
            wait_seconds=self.tracked.wait_seconds,
        )
        child.tag({**tags_of(trial), STAGES_TAG: json.dumps([stage.run_id for stage in before])})
        return child

    def report(self, grids: Sequence[tuple[Grid, Sequence[PlannedTrial]]]) -> None:
        """Print the scores, grid by grid, and store them in the sweep's folder and its MLflow run."""
        states = {state.label: state for state in self.states}
        tables = [
            f"{grid.title}\n\n"
            + score_table(
                [row.label for row in grid.rows],
                [states[trial.label] for trial in trials],
                [trial.experiment.evaluation for trial in trials],
            )
            for grid, trials in grids
        ]
        text = "\n\n".join([f"# {self.name}", *tables])
        write_atomic(join(self.folder, "sweep.md"), f"{text}\n".encode())
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "sweep.md").write_text(f"{text}\n", "utf-8")
            self.tracked.store(Path(folder))
        uri = self.tracked.tracking_uri
        print(
            f"\n{text}\n\nMLflow: {redacted_uri(uri)}, run {self.tracked.run_id}\npage: {self.tracked.page}", flush=True
        )
        none = f"none: make it with python jobs/report_sweep.py {shlex.quote(self.name)}"
        page = reported(
            lambda: store_sweep_report(uri, self.tracked.run_id), none, self.tracked, "the report of the sweep"
        )
        print(f"table: {join(self.folder, 'sweep.md')}\nreport: {page}", flush=True)

    def mark_finished(self) -> None:
        """The same command then makes the report again, or another sweep."""
        write_atomic(join(self.folder, FINISHED), json.dumps({"mlflow_run": self.tracked.run_id}).encode())


class _Board:
    """Shows the table of trials, when there is something new and now and then."""

    def __init__(self, states: Sequence[TrialState], overrides: Mapping[str, Mapping[str, Any]]) -> None:
        self.is_due = False
        self._states = states
        self._overrides = overrides
        self._shown = time.monotonic()

    def show_if_due(self) -> None:
        now = time.monotonic()
        if now - self._shown >= (CHANGE_SECONDS if self.is_due else SHOW_SECONDS):
            clock = time.strftime("%H:%M:%S")
            num_finished = sum(state.status in ("finished", "stopped early") for state in self._states)
            table = progress_table(self._states, self._overrides)
            print(f"\n{clock}, {num_finished} of {len(self._states)} finished\n{table}", flush=True)
            self.is_due, self._shown = False, now
