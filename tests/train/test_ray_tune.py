"""How many trials run at a time, and what ASHA knows after a restart. Ray itself: tests/integration/test_sweep.py."""

from types import SimpleNamespace
from typing import Any

import pytest
import ray

from cocktail.cluster.placement import Demand
from cocktail.train.ray_tune import EarlyStopping, TrialState, _first_line, _StopsEarly, _Watch, trials_that_fit
from cocktail.types import UsageError


@pytest.fixture
def cluster(monkeypatch):
    """Sets what the cluster's nodes have."""
    monkeypatch.delenv("COCKTAIL_AUTOSCALING", raising=False)

    def have(*nodes: dict[str, float]) -> None:
        told = [{"NodeManagerHostname": f"node{n}", "Resources": node, "Alive": True} for n, node in enumerate(nodes)]
        monkeypatch.setattr(ray, "nodes", lambda: told)

    return have


def phase(count: int = 1, **each: float) -> list[Demand]:
    return [Demand("training process", count, each)]


@pytest.mark.parametrize(
    ("nodes", "phases", "fitting"),
    [
        ([{"CPU": 2.0}], [phase(CPU=1.0)], 2),
        ([{"CPU": 2.0}], [phase(CPU=1.5)], 1),
        ([{"CPU": 2.0}], [phase(CPU=0.5), phase(CPU=1.0)], 2),  # the larger counts, whichever comes first
        ([{"CPU": 1.2}], [phase(CPU=0.4)], 3),  # 1.2 / 0.4 is a little less than 3
        ([{"CPU": 64.0, "GPU": 8.0}], [phase(2, CPU=1.0, GPU=1)], 4),
        ([{"CPU": 6.0, "GPU": 8.0}], [phase(CPU=2.0, GPU=1)], 3),
        ([{"CPU": 3.0}, {"CPU": 3.0}], [phase(CPU=2.0)], 2),  # what is left on each is too little
    ],
)
def test_as_many_trials_run_as_the_cluster_holds_at_their_peak(cluster, nodes, phases, fitting):
    cluster(*nodes)
    assert trials_that_fit(phases) == fitting
    assert trials_that_fit(phases, most=1) == 1


def test_a_cluster_too_small_for_one_trial_is_refused_with_the_numbers(cluster):
    cluster({"CPU": 2.0})
    with pytest.raises(
        UsageError, match=r"no place for 1 x training process \(4 CPUs, 1 GPUs each\) .*\(2 CPUs, 0 GPUs"
    ):
        trials_that_fit([phase(CPU=4.0, GPU=1)])


def test_more_trials_than_fit_are_refused_unless_the_cluster_grows(cluster, monkeypatch):
    cluster({"CPU": 4.0})
    two = [phase(2, CPU=1.0), phase(CPU=2.0)]
    with pytest.raises(
        UsageError,
        match=r"--max-concurrent 3: the cluster holds 2 trials at once, each of which needs 2 x training process "
        r"\(1 CPUs each\), then 1 x training",
    ):
        trials_that_fit(two, most=3)
    monkeypatch.setenv("COCKTAIL_AUTOSCALING", "1")
    assert trials_that_fit(two, most=3) == 3
    cluster({"CPU": 0.0})
    assert trials_that_fit(two) == 1


def asha(left: list[str], **earlier: list[tuple[int, float]]) -> _StopsEarly:
    settings = EarlyStopping(metric="loss/total", grace_steps=10, reduction_factor=2, earlier=earlier)
    return _StopsEarly(settings, left)


def report(scheduler: _StopsEarly, trial: Any, step: int, loss: float) -> str:
    result = {"step": step, "num_steps": 60, "loss/total": loss}
    return scheduler.on_trial_result(None, trial, result)


def added(scheduler: _StopsEarly, label: str) -> Any:
    trial = SimpleNamespace(trial_id=f"id of {label}", config={"label": label})
    scheduler.on_trial_add(None, trial)
    return trial


def test_asha_compares_with_trials_that_ended_before_this_start():
    fresh = asha(["b"])
    assert report(fresh, added(fresh, "b"), 10, 2.0) == "CONTINUE"  # nothing to compare with
    after_a_restart = asha(["b"], a=[(5, 3.0), (10, 1.0), (15, 0.9)])
    trial = added(after_a_restart, "b")
    assert report(after_a_restart, trial, 9, 2.0) == "CONTINUE"  # not yet at the rung
    assert report(after_a_restart, trial, 10, 2.0) == "STOP"


def test_asha_does_not_compare_a_trial_again_that_has_passed_before_this_start():
    scheduler = asha(["b", "c"], b=[(10, 1.0), (12, 5.0)], a=[(10, 1.5)])
    assert report(scheduler, added(scheduler, "b"), 12, 5.0) == "CONTINUE"
    assert report(scheduler, added(scheduler, "c"), 12, 5.0) == "STOP"


def test_asha_stops_no_trial_after_its_last_step():
    scheduler = asha(["b"], a=[(10, 1.0), (20, 1.0), (40, 1.0), (60, 1.0)])
    assert report(scheduler, added(scheduler, "b"), 60, 9.0) == "CONTINUE"


def test_a_trials_status_follows_what_it_reports():
    changes: list[tuple[str, str]] = []
    trials = [TrialState(label=label) for label in ("a", "b", "c")]
    watch = _Watch(trials, lambda trial: changes.append((trial.label, trial.status)), lambda: None)
    a, b, c = (SimpleNamespace(config={"label": label}) for label in ("a", "b", "c"))
    for trial in (a, b, c):
        watch.on_trial_start(0, [], trial)
    watch.on_trial_result(1, [], a, {"step": 4, "num_steps": 8, "loss/total": 2.0, "date": "today"})
    assert (trials[0].step, trials[0].metrics["loss/total"], "date" in trials[0].metrics) == (4, 2.0, False)
    watch.on_trial_result(2, [], a, {"step": 8, "num_steps": 8})
    watch.on_trial_result(3, [], a, {"sdr": 5.0, "scored": 1})
    watch.on_trial_complete(4, [], a)
    watch.on_trial_result(4, [], b, {"step": 4, "num_steps": 8})
    watch.on_trial_complete(5, [], b)
    watch.on_trial_error(5, [], c)
    assert changes[3:] == [("a", "scoring"), ("a", "finished"), ("b", "stopped early"), ("c", "failed")]
    assert trials[0].metrics["sdr"] == 5.0
    assert "process died" in trials[2].error


def test_steps_of_stages_add_up_until_the_trial_is_scored():
    (trial,) = trials = [TrialState(label="a")]
    changes: list[tuple[str, int, int]] = []
    watch = _Watch(trials, lambda trial: changes.append((trial.status, trial.earlier_steps, trial.step)), lambda: None)
    tuned = SimpleNamespace(config={"label": "a"})
    watch.on_trial_start(0, [], tuned)
    for step in (4, 8, 4, 8, 8):  # the third stage says how far it is but once
        watch.on_trial_result(1, [], tuned, {"step": step, "num_steps": 8})
    assert changes[1:] == [
        ("scoring", 0, 8), ("running", 8, 8), ("scoring", 8, 8), ("running", 16, 8), ("scoring", 16, 8),
    ]  # fmt: skip
    watch.on_trial_result(2, [], tuned, {"step": 24, "num_steps": 24, "sdr": 5.0, "scored": 1})
    watch.on_trial_complete(3, [], tuned)
    assert (trial.status, trial.earlier_steps, trial.step) == ("finished", 0, 24)


def test_an_error_is_told_by_its_first_line():
    assert _first_line(UsageError("no shards at /x:\nadvice")) == "no shards at /x:"
    assert _first_line(ValueError("a\nb")) == "ValueError: a"
