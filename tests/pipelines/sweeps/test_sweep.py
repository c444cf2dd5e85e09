"""What a sweep's options, name and tables are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import cast

import pytest

from cocktail.config.evaluation import Evaluation
from cocktail.config.experiment import Experiment
from cocktail.models.mp_net import STAGES
from cocktail.models.sgn import SGNConfig
from cocktail.storage import write_atomic
from cocktail.tracking import lease as leases
from cocktail.tracking.outages import OutageError
from cocktail.tracking.run import TrackedRun
from cocktail.train.ray_tune import TrialState
from cocktail.types import UsageError
from pipelines.experiments.locations import place_of
from pipelines.sweeps import sweep as sweeping
from pipelines.sweeps.grids import PlannedTrial
from pipelines.sweeps.options import SweepOptions, sweep_name
from pipelines.sweeps.progress import progress_table, score_table
from pipelines.sweeps.sweep import _Sweep, run_planned, sweep
from tests.made.corpora.toy_shards import make_toy_shards
from tests.made.models.small_experiment import SMALL
from tests.made.models.small_stages import SMALL as SMALL_STAGES
from tests.services.other_process import other_holder


def test_an_unfinished_sweep_is_gone_on_with_and_a_finished_one_is_followed_if_asked(tmp_path):
    base = replace(SMALL, output=str(tmp_path))
    again, options = SweepOptions(again=True), SweepOptions()
    assert sweep_name(base, "0123abcd", options) == "small-sweep-0123abcd-1"
    folder = tmp_path / "sweeps" / "small-sweep-0123abcd-1"
    write_atomic(str(folder / "sweep.json"), b"{}")
    assert sweep_name(base, "0123abcd", again) == "small-sweep-0123abcd-1"
    write_atomic(str(folder / "finished.json"), b"{}")
    assert sweep_name(base, "0123abcd", options) == "small-sweep-0123abcd-1"
    assert sweep_name(base, "0123abcd", again) == "small-sweep-0123abcd-2"
    assert sweep_name(base, "ffffffff", again) == "small-sweep-ffffffff-1"
    assert sweep_name(base, "0123abcd", SweepOptions(sweep_name="ours")) == "ours"


@pytest.mark.parametrize(
    "wrong",
    [{"max_concurrent": 0}, {"asha_grace_steps": 0}, {"asha_reduction_factor": 1}, {"sweep_name": "a/b"}],
)
def test_options_out_of_range_are_refused(wrong):
    with pytest.raises(UsageError, match=next(iter(wrong))):
        SweepOptions(**wrong)


def test_a_run_name_is_refused_as_trials_have_their_own():
    with pytest.raises(UsageError, match="--sweep-name"):
        sweep(type(SMALL), replace(SMALL, run_name="mine"), [], SweepOptions(seeds=(0, 1)))


def test_a_trial_that_would_begin_with_a_later_stage_is_refused_before_anything_is_recorded():
    later = replace(SMALL_STAGES, model=replace(SMALL_STAGES.model, stage=STAGES[1]))
    trials = [PlannedTrial(label="a", overrides={}, experiment=later, stages=STAGES)]
    with pytest.raises(UsageError, match="goes on from the one before: give its run or checkpoint by --start-from"):
        run_planned(later, trials, [], SweepOptions())


@dataclass
class MadeRun:
    """An MLflow run of a server that may be away."""

    tags: dict[str, str] = field(default_factory=dict)
    status: str = "RUNNING"
    parts: list[MadeRun] = field(default_factory=list)
    wait_seconds: float = 600.0
    waits: list[float] = field(default_factory=list)
    """How long each question to a server that was away had to wait."""
    away: bool = False
    tracking_uri: str = ""
    run_id: str = "1"
    name: str = "trial"
    earlier_stages: list[MadeRun] = field(default_factory=list)
    steps: int = 0

    def history(self, metric: str) -> list[tuple[int, float]]:
        assert metric == "loss/total"
        return [(self.steps, 1.0)] if self.steps else []

    @property
    def children(self) -> list[MadeRun]:
        if self.away:
            self.waits.append(self.wait_seconds)
            raise OutageError("nobody answers")
        return self.parts

    def tag(self, tags: dict[str, str]) -> None:
        self.tags |= tags

    def finish(self, status: str) -> None:
        self.status = status

    @contextmanager
    def closing(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self.status = "FAILED"
            raise


def sweep_of(tracked: MadeRun, *labels: str) -> _Sweep:
    states = [TrialState(label=label) for label in labels]
    return _Sweep(name="made", folder="", tracked=cast(TrackedRun, tracked), planned={}, keys={}, states=states)


def test_an_outage_while_trials_train_ends_none_and_all_is_said_in_the_end(monkeypatch, capsys):
    parts = [MadeRun(tags={"trial.label": label, "trial.status": "running"}) for label in "abc"]
    tracked = MadeRun(parts=parts)

    def run_trials(trials, run_one, *, on_change, **_):
        tracked.away = True
        for trial, status in zip(trials, ("finished", "failed", "stopped early"), strict=True):
            trial.status, trial.metrics = status, {"step": 7}
            on_change(trial)
        tracked.away = False

    monkeypatch.setattr(sweeping, "run_trials", run_trials)
    whole = sweep_of(tracked, *"abc")
    whole.planned = {label: PlannedTrial(label=label, overrides={}, experiment=SMALL) for label in "abc"}
    whole.run(2, SweepOptions())
    assert max(tracked.waits) <= 10.0
    assert capsys.readouterr().out.count("is said in MLflow later: nobody answers") == 3
    said = [part.tags["trial.status"].split(":")[0] for part in parts]
    assert said == ["finished", "failed", "stopped early at step 7"]
    assert [part.status for part in parts[1:]] == ["FAILED", "KILLED"]


@pytest.mark.parametrize(
    ("second", "ended"),
    [("RUNNING", ["FINISHED", "FAILED"]), ("none", ["FINISHED", "FAILED"]), ("waits", ["FINISHED"])],
)
def test_a_stage_that_was_stopped_is_ended_as_a_trial_is_and_one_that_is_finished_stays_so(
    monkeypatch, tmp_path, second, ended
):
    """The second stage of three is running, has failed before it had a run, or has not begun."""
    said = {"trial.label": "a", "trial.status": "running"}
    first = MadeRun(tags=dict(said), status="FINISHED", name="s-a-minus", run_id="first", steps=100)
    tracked = MadeRun(parts=[first])
    if second == "RUNNING":
        tracked.parts.append(MadeRun(tags=dict(said), name="s-a-plus", earlier_stages=[first], steps=30))

    def open_run(*_, name: str, **__) -> MadeRun:
        tracked.parts.append(MadeRun(name=name))
        return tracked.parts[-1]

    monkeypatch.setattr(TrackedRun, "open", open_run)
    whole = sweep_of(tracked, "a")
    experiment = replace(SMALL_STAGES, run_name="s-a", output=str(tmp_path))
    whole.planned = {
        "a": PlannedTrial(label="a", overrides={}, experiment=experiment, stages=("minus", "plus", "joint"))
    }
    whole.keys = {"a": "key"}
    (state,) = whole.states
    whole.recall()
    assert state.earlier_steps == 100
    state.status, state.error = ("waiting", "") if second == "waits" else ("failed", "OutOfMemoryError")
    whole.settle(whole.states)
    assert [run.status for run in tracked.parts] == ended
    statuses = [run.tags["trial.status"] for run in tracked.parts]
    assert statuses == (["running"] if second == "waits" else ["finished", "failed: OutOfMemoryError"])
    if second == "none":
        assert tracked.parts[1].tags["stages.before"] == '["first"]' and tracked.parts[1].name == "s-a-plus"


@pytest.mark.parametrize("stages", [(), STAGES])
def test_a_trial_that_failed_before_it_had_a_run_is_tried_again_in_the_one_that_says_so(tmp_path, stages):
    experiment = replace(SMALL_STAGES, run_name="s-a", output=str(tmp_path), data="/shards")
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    parent = TrackedRun.open(uri, str(tmp_path), experiment=experiment.name, name="s", key="s", params={})
    whole = replace(sweep_of(MadeRun(), "a"), tracked=parent, keys={"a": "key"})
    whole.planned = {"a": PlannedTrial(label="a", overrides={}, experiment=experiment, stages=stages)}
    whole.states[0].status, whole.states[0].error = "failed", "OutOfMemoryError"
    whole.settle(whole.states)
    whole.settle(whole.states)  # as at the end of a sweep
    (child,) = parent.children
    assert (child.status, child.tags["trial.status"]) == ("FAILED", "failed: OutOfMemoryError")
    name = "s-a-minus" if stages else "s-a"
    again = TrackedRun.open(
        uri,
        str(tmp_path),
        experiment=experiment.name,
        name=name,
        key="key",
        place=place_of(str(tmp_path / "runs" / name)),
        params={},
    )
    assert again.run_id == child.run_id


@pytest.fixture
def two_seeds(monkeypatch, tmp_path):
    """What sweeps two seeds of the small experiment, without a cluster, in the MLflow run that is given."""
    make_toy_shards(tmp_path / "shards")
    base = replace(SMALL, data=str(tmp_path / "shards"), output=str(tmp_path / "outputs"))
    for name, value in {"connect": None, "uses_gpus": False, "executor_of": "inline", "trials_that_fit": 1}.items():
        monkeypatch.setattr(sweeping, name, lambda *_, value=value, **__: value)

    def run(tracked: MadeRun) -> None:
        monkeypatch.setattr(TrackedRun, "open", lambda *_, **__: tracked)
        sweep(Experiment[SGNConfig], base, [], SweepOptions(sweep_name="mine", seeds=(0, 1)))

    return run


def test_a_sweep_that_cannot_recall_its_trials_is_not_left_running(two_seeds):
    tracked = MadeRun(away=True)
    with pytest.raises(OutageError):
        two_seeds(tracked)
    assert tracked.status == "FAILED"


def test_a_sweep_that_another_process_works_at_is_refused_and_says_what_to_name(two_seeds, tmp_path, monkeypatch):
    monkeypatch.setattr(leases, "GOING_SECONDS", 0.0)
    with other_holder(str(tmp_path / "outputs" / "sweeps" / "mine")) as pid:
        tracked = MadeRun(away=True)
        with pytest.raises(UsageError, match=rf"sweep mine is being done by process {pid} .*--sweep-name"):
            two_seeds(tracked)
        assert tracked.status == "RUNNING" and tracked.waits == []


@pytest.mark.parametrize("failed", [False, True])
def test_a_sweep_is_marked_as_finished_before_another_process_can_take_it(two_seeds, tmp_path, monkeypatch, failed):
    seen: list[bool] = []

    class Watched(leases.Lease):
        def __exit__(self, *raised: object) -> None:
            seen.append((tmp_path / "outputs" / "sweeps" / "mine" / "finished.json").exists())
            super().__exit__(*raised)  # pyright: ignore[reportArgumentType]

    def report(whole: _Sweep, *_: object) -> None:
        for state in whole.states:
            state.status = "failed" if failed else "finished"

    monkeypatch.setattr(sweeping, "Lease", Watched)
    monkeypatch.setattr(_Sweep, "run", lambda *_: None)
    monkeypatch.setattr(_Sweep, "report", report)
    with pytest.raises(SystemExit) if failed else nullcontext():
        two_seeds(MadeRun())
    assert seen == [not failed]


def test_the_table_shows_how_far_each_trial_is():
    trials = [
        TrialState(
            label="depth 1", status="finished", metrics={"step": 300, "num_steps": 300, "loss/total": 1.5, "sdr": 4.25}
        ),
        TrialState(
            label="depth 3",
            status="running",
            metrics={"step": 60, "num_steps": 300, "loss/total": 2.0, "seconds_per_step": 0.5},
        ),
        TrialState(label="depth 6", earlier_steps=200, metrics={"step": 50, "num_steps": 100, "loss/total": 0.00213}),
        TrialState(label="depth 9"),
    ]
    overrides = {trial.label: {"model.depth": int(trial.label[-1])} for trial in trials}
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in progress_table(trials, overrides).splitlines()]
    assert rows[0] == ["trial", "sets", "status", "step", "loss", "SDR", "s/step", "min left"]
    assert rows[2:] == [
        ["depth 1", "depth=1", "finished", "300/300", "1.50", "4.25", "", ""],
        ["depth 3", "depth=3", "running", "60/300", "2.00", "", "0.50", "2.0"],
        ["depth 6", "depth=6", "waiting", "200 + 50/100", "0.0021", "", "", ""],
        ["depth 9", "depth=9", "waiting", "", "", "", "", ""],
    ]


def test_of_the_trials_that_have_not_begun_all_but_the_next_two_are_counted():
    def shown(num_waiting: int) -> list[str]:
        begun = [
            TrialState(label="done", status="finished", metrics={"sdr": 1.0}),
            TrialState(label="again", metrics={"step": 5, "num_steps": 9}),
            TrialState(label="second stage", earlier_steps=9),
        ]
        trials = [*begun, *(TrialState(label=f"new {number}") for number in range(num_waiting))]
        _, _, *rows = progress_table(trials, {trial.label: {} for trial in trials}).splitlines()
        assert len({row.count("|") for row in rows}) == 1
        return [row.split("|")[1].strip() for row in rows]

    assert shown(3) == ["done", "again", "second stage", "new 0", "new 1", "new 2"]
    assert shown(4) == ["done", "again", "second stage", "new 0", "new 1", "2 more"]


def test_scores_are_in_the_grids_order_with_their_interval_and_what_went_wrong():
    trials = [
        TrialState(
            label="b",
            status="finished",
            metrics={"sdr": 5.0, "sdr_low": 4.0, "sdr_high": 6.0, "sir": 9.0, "sar": 8.0, "num_recordings": 30},
        ),
        TrialState(label="a", status="stopped early", metrics={"step": 40}),
        TrialState(label="c", status="failed", error="no room"),
    ]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in score_table("bac", trials, []).splitlines()]
    assert rows[2:] == [
        ["b", "5.00", "4.00 to 6.00", "9.00", "8.00", "finished"],
        ["a", "", "", "", "", "stopped early at step 40"],
        ["c", "", "", "", "", "failed: no room"],
    ]


def test_intervals_of_trials_that_did_not_log_their_recordings_are_not_called_by_recording():
    before = {"sdr": 5.0, "sdr_low": 4.0, "sdr_high": 6.0}
    trials = [
        TrialState(label="before", status="finished", metrics=before),
        TrialState(label="since", status="finished", metrics=before | {"num_recordings": 30}),
    ]
    header, _, *rows = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in score_table("ab", trials, []).splitlines()
    ]
    assert header == ["trial", "SDR", "95 % interval, by recording", "status"]
    assert rows == [["a", "5.00", "", "finished"], ["b", "5.00", "4.00 to 6.00", "finished"]]
    assert score_table("a", trials[:1], []).splitlines()[0].count("|") == 4  # no column of intervals


def test_scores_of_maps_are_in_percent_by_number_of_sources():
    metrics = {
        "ap_1_sources": 0.5, "ap_low_1_sources": 0.4, "ap_high_1_sources": 0.625, "auc_1_sources": 0.25,
        "auc_half_1_sources": 0.9, "cap_2_sources": 0.75, "auc_2_sources": 0.125, "num_mixtures_2_sources": 40.0,
        "ciou_2_sources": 0.5, "num_recordings_1_sources": 30,
    }  # fmt: skip
    trials = [TrialState(label="a", status="finished", metrics=metrics), TrialState(label="b")]
    tests = [Evaluation(multi_threshold=0.1)] * 2
    header, _, a, b = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in score_table("ab", trials, tests).splitlines()
    ]
    singles, pairs = (
        ("AP, 1 source", "95 % interval, by recording", "AUC, 1 source"),
        ("CAP, 2 sources", "CIoU@0.1, 2 sources"),
    )
    assert header == ["trial", *singles, *pairs, "AUC, 2 sources", "status"]
    assert a == ["a", "50.0", "40.0 to 62.5", "25.0", "75.0", "50.0", "12.5", "finished"]
    assert b == ["b", "", "", "", "", "", "", "waiting"]
    assert "| CIoU@t, 2 sources" in score_table("ab", trials, [Evaluation(multi_threshold=0.1), Evaluation()])
    header = progress_table(trials, {"a": {}, "b": {}}).splitlines()[0]
    assert [cell.strip() for cell in header.split("|")[5:-1]] == [
        *("loss", "AUC, 1 source", "AUC, 2 sources", "s/step", "min left")
    ]
