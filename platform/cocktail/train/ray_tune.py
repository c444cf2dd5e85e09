"""The trials of a sweep under Ray Tune: as many at a time as the cluster holds, and stopped early if that is chosen.

What a trial has done is in its own checkpoints and records, so each start gives Tune only what is left to do.
`Tuner.restore` is not used: it forgets what ASHA has seen, keeps the old limit of trials at a time, and starts all that
failed at once, over any limit.
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Literal

import ray
import ray.exceptions
from ray import tune
from ray.tune import Callback, FailureConfig, RunConfig, TuneConfig, Tuner
from ray.tune.schedulers import ASHAScheduler, TrialScheduler

from cocktail.cluster.connection import TRIALS_AT_ONCE, find_cause, prepare_train
from cocktail.cluster.placement import Demand, cluster_nodes, copies_that_fit, grows, require_place
from cocktail.storage import resolve
from cocktail.types import UsageError

Status = Literal["waiting", "running", "scoring", "finished", "stopped early", "failed"]
ENDED: tuple[Status, ...] = ("finished", "stopped early", "failed")
SCORED = "scored"
"""Reported with a trial's scores: it has done all that it had to."""
_NO_LAST_STEP = 10**9
"""ASHA stops a trial that reaches its last step. Ours must then be scored, so it is to know of none."""


@dataclass(kw_only=True)
class TrialState:
    """State of a trial: how far it is."""

    label: str
    status: Status = "waiting"
    metrics: dict[str, float] = field(default_factory=dict)
    """The last of each that it reported; `step` and `num_steps` among them."""
    earlier_steps: int = 0
    """Steps of the stages before the one that reports, of a system that learns in stages, until it is scored."""
    error: str = ""
    """The first line of what it failed of."""

    @property
    def step(self) -> int:
        return int(self.metrics.get("step", 0))

    @property
    def scored(self) -> bool:
        return SCORED in self.metrics


@dataclass(frozen=True, kw_only=True)
class EarlyStopping:
    """ASHA: at rungs of the training, the worst of the trials that came so far are stopped."""

    metric: str
    """Metric that is compared, lower is better: one that training reports."""
    grace_steps: int
    """The first rung, in steps; each further one is reduction_factor times the one before."""
    reduction_factor: int = 3
    """Trials at a rung of which one goes on."""
    earlier: Mapping[str, Sequence[tuple[int, float]]] = field(default_factory=dict)
    """Values that trials have reported before this start, by label: (step, value), by step."""


def trials_that_fit(phases: Sequence[Sequence[Demand]], *, most: int | None = None) -> int:
    """Number of trials that run at a time: as many as the cluster holds at once, and no more than `most`.

    `phases` are what a trial needs at once, one after the other. Raises UsageError, with the numbers, if the cluster
    does not grow and does not hold one, or not as many as asked for.
    """
    for demands in phases:
        require_place(demands)
    nodes = cluster_nodes()
    fitting = min(copies_that_fit(nodes, demands) for demands in phases)
    if most is not None and most > fitting and not grows():
        shown = ", then ".join(" and ".join(map(str, demands)) for demands in phases)
        raise UsageError(
            f"--max-concurrent {most}: the cluster holds {fitting} trials at once, each of which needs {shown}. "
            "Leave the option out, or lower what a trial needs (--resources.num-workers, --resources.cpus-per-worker)"
        )
    return max(fitting, 1) if most is None else most


def run_trials(
    trials: Sequence[TrialState],
    run_one: Callable[[str], Mapping[str, float]],
    *,
    folder: str,
    at_once: int,
    early_stopping: EarlyStopping | None,
    on_change: Callable[[TrialState], None],
    on_step: Callable[[], None],
) -> None:
    """Run the trials that have not ended, up to `at_once` at a time, in their order.

    `run_one(label)`, in a process of its own anywhere on the cluster, runs one and returns its scores. `trials` are
    kept up to date: `on_change` gets each whose status has changed; `on_step` is called several times a second. A
    trial that fails stops no other. Tune's own files go to `folder`, a path or URI. KeyboardInterrupt ends it
    at once.
    """
    left = [trial.label for trial in trials if trial.status not in ENDED]
    if not left:
        return
    _quiet_tune()

    def trial(config: dict[str, Any]) -> None:
        os.environ[TRIALS_AT_ONCE] = str(at_once)
        prepare_train()
        try:
            scores = run_one(config["label"])
        except Exception as error:
            tune.report({"error": _first_line(error)})
            raise
        tune.report({**scores, SCORED: 1})

    filesystem, path = resolve(folder)
    tuner = Tuner(
        # A trial's process only waits for those that train and score, which ask for what they need by themselves. So
        # it holds nothing that they could want; but Tune refuses a trial that asks for nothing.
        tune.with_resources(trial, {"memory": 1 << 20}),
        param_space={"label": tune.grid_search(left)},
        tune_config=TuneConfig(
            max_concurrent_trials=at_once,
            scheduler=None if early_stopping is None else _StopsEarly(early_stopping, left),
            trial_name_creator=lambda trial: trial.config["label"],
            trial_dirname_creator=lambda trial: trial.trial_id,
        ),
        run_config=RunConfig(
            name=f"start-{time.time_ns()}",
            storage_path=path,
            storage_filesystem=filesystem,
            failure_config=FailureConfig(max_failures=0),
            callbacks=[_Watch(trials, on_change, on_step)],
            verbose=0,
        ),
    )
    try:
        tuner.fit()
    except KeyboardInterrupt:
        ray.shutdown()  # the trials' processes end now: what is said of them afterwards stays true
        raise


def _quiet_tune() -> None:
    """Leave what is said of trials, and what is done at an interrupt, to the caller."""
    # What the table says is not said again, and no event files beside MLflow.
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # which is said even if it is told to be silent
    logging.getLogger("ray.tune").setLevel(logging.ERROR)
    os.environ.setdefault("TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S", "0")
    # Not each report has the metric that trials are compared by.
    os.environ.setdefault("TUNE_DISABLE_STRICT_METRIC_CHECKING", "1")
    # An interrupt is for the caller, at once; there is nothing of Tune's to save.
    os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")


class _StopsEarly(ASHAScheduler):
    """ASHA that remembers what was reported before this start and never stops a trial that has done its last step."""

    def __init__(self, settings: EarlyStopping, left: Sequence[str]) -> None:
        super().__init__(
            time_attr="step",
            metric=settings.metric,
            mode="min",
            max_t=_NO_LAST_STEP,
            grace_period=settings.grace_steps,
            reduction_factor=settings.reduction_factor,
        )
        self.settings = settings
        for label in settings.earlier.keys() - set(left):
            self.on_trial_add(None, SimpleNamespace(trial_id=label, config={"label": label}))

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        super().on_trial_add(tune_controller, trial)
        for step, value in self.settings.earlier.get(trial.config["label"], ()):
            # What it answers was done then: a trial that it stops here was stopped, or had done its last step.
            super().on_trial_result(tune_controller, trial, {"step": step, self.settings.metric: value})

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict) -> str:
        if result.get("step", 0) >= result.get("num_steps", math.inf):
            return TrialScheduler.CONTINUE
        return super().on_trial_result(tune_controller, trial, result)


class _Watch(Callback):
    """Keeps the trials up to date."""

    def __init__(
        self, trials: Sequence[TrialState], on_change: Callable[[TrialState], None], on_step: Callable[[], None]
    ) -> None:
        self._trials = {trial.label: trial for trial in trials}
        self._on_change = on_change
        self._on_step = on_step

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune keeps its callbacks in a file, which nobody opens again."""
        return {}

    def _change(self, tune_trial: Any, status: Status) -> None:
        trial = self._trials[tune_trial.config["label"]]
        if trial.status != status:
            trial.status = status
            self._on_change(trial)

    def on_trial_start(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        self._change(trial, "running")

    def on_trial_result(self, iteration: int, trials: list, trial: Any, result: dict, **info: Any) -> None:
        ours = self._trials[trial.config["label"]]
        ours.error = result.get("error", "")
        if SCORED in result:
            ours.earlier_steps = 0  # its scores come with the steps of all stages
        elif ours.status == "scoring" and "step" in result:  # of a system in stages the next has begun
            ours.earlier_steps += ours.step
            self._change(trial, "running")
        ours.metrics |= {name: value for name, value in result.items() if isinstance(value, int | float)}
        if ours.step >= ours.metrics.get("num_steps", math.inf):
            self._change(trial, "scoring")

    def on_trial_complete(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        self._change(trial, "finished" if self._trials[trial.config["label"]].scored else "stopped early")

    def on_trial_error(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        ours = self._trials[trial.config["label"]]
        ours.error = ours.error or "its process died, of what it had no time to say: the Ray dashboard has its log"
        self._change(trial, "failed")

    def on_step_end(self, iteration: int, trials: list, **info: Any) -> None:
        self._on_step()


def _first_line(error: Exception) -> str:
    """What an error of a trial says to a user: a mistake to mend by its message, anything else with its kind."""
    mendable = find_cause(error, UsageError)
    if mendable is not None:
        return str(mendable).partition("\n")[0]
    cause: BaseException = error
    while isinstance(cause, ray.exceptions.RayTaskError) and isinstance(cause.cause, BaseException):
        cause = cause.cause
    return f"{type(cause).__name__}: {cause}".partition("\n")[0]
