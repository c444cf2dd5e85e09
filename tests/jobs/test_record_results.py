"""jobs/record_results.py keeps runs of MLflow, and jobs/fill_results.py writes their tables into documents."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from cocktail.studies.recorded_results import RecordedResults
from cocktail.tracking.run import TrackedRun
from cocktail.types import UsageError
from jobs import fill_results, record_results
from tests.made.results.recorded import made_run

COMMIT, OTHER_COMMIT = "0123456789" * 4, "b" * 40
ENVIRONMENT = {"cluster": {"CPU": 2.0}, "gpus": {"driver": [], "cluster": []}}
TWO = ["sgn=trained-0", "sgn=trained-1"]


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database with two trainings that differ in their seed, an evaluation of the first, and others."""
    output = tmp_path_factory.mktemp("output")
    training = {"data": "/shards", "git_commit": COMMIT, "manifest_hash": "f00d", "torch": "2.14.1"}
    training["initial_weights"] = "random weights"
    for seed, scores in (("0", [1, 2, 3]), ("1", [3, 4, 5])):
        command = f"/home/me/cocktail/jobs/sgn.py music --data /shards --output /home/me/out --seed {seed}"
        tags = {**training, "command": command, "checkpoint": f"/out/{seed}/step-00000300"}
        params = {"seed": seed, "training.batch_size": "8", "model.depth": "2"}
        tracked = _track(output, f"trained-{seed}", tags, params, scores)
        tracked.log({"seconds/data": 5, "seconds/training": 60, "training_seconds_per_step": 0.5, "starts": 1}, 300)
        tracked.finish("FINISHED")
    command = "jobs/evaluate.py /out/0/step-00000300 --mixing.num-sources 3"
    described = f"v0.1.0-12-g{COMMIT}"  # as git names a commit after a tag
    tags = {**training, "git_commit": described, "command": command, "checkpoint": "/out/0/step-00000300"}
    trained = {"trained.seed": "0", "trained.training.batch_size": "8", "trained.model.depth": "2"}
    _track(output, "evaluated", tags, trained, [7, 7, 7]).finish("FINISHED")
    _track(output, "evaluated-later", {**tags, "git_commit": OTHER_COMMIT}, trained, [7, 7, 7]).finish("FINISHED")
    went_on = {**tags, "git_commits": json.dumps([COMMIT]), "checkpoint": "/out/4/step-00000300"}
    tracked = _track(output, "went-on", went_on, {"seed": "0", "training.batch_size": "8"}, [7, 7, 7])
    tracked.log({"seconds/data": 5, "seconds/training": 60, "training_seconds_per_step": 0.5, "starts": 2}, 300)
    tracked.finish("FINISHED")
    several = {**tags, "git_commits": json.dumps([OTHER_COMMIT, COMMIT]), "checkpoint": "/out/5/step-00000300"}
    _track(output, "several", several, {"seed": "0"}, [7, 7, 7]).finish("FINISHED")
    _track(output, "running", {**tags, "checkpoint": "/out/3/step-00000100"}, {"seed": "0"}, [7, 7, 7])
    for seed in ("0", "1"):
        _stages(output, training, seed)
    dirty = {**tags, "git_commit": f"{COMMIT}-dirty, changed by 00", "checkpoint": "/out/2/step-00000300"}
    _track(output, "dirty", dirty, {"seed": "0"}, [7, 7, 7]).finish("FINISHED")
    return output


def _stages(output: Path, training: dict[str, str], seed: str) -> None:
    """A run of two stages, the second of which starts from what its seed has learned in the first; and the same after
    a first stage of another commit."""
    command = f"jobs/mp_net.py music --data /shards --seed {seed}"
    params = {"seed": seed, "training.batch_size": "8"}

    def stage(name: str, steps: int, seconds: float, **tags: str) -> TrackedRun:
        of_run = {**training, "command": command, "checkpoint": f"/out/{name}/step-{steps:08}", **tags}
        tracked = _track(output, name, of_run, params, [1, 2, 3])
        tracked.log({"seconds/training": seconds}, steps)
        tracked.finish("FINISHED")
        return tracked

    def last(name: str, before: TrackedRun) -> None:
        weights = f"all of /out/{seed}, SHA-256 {seed * 16}"
        begun = {"stages.before": json.dumps([before.run_id]), "initial_weights": weights, "machine": "4 cores"}
        stage(name, 200, 30, **begun)

    last(f"staged-{seed}", stage(f"staged-{seed}-minus", 100, 10, torch="2.14.0"))
    last(f"mixed-{seed}", stage(f"mixed-{seed}-minus", 100, 10, git_commit=OTHER_COMMIT))


def _track(
    output: Path, name: str, tags: dict[str, str], params: dict[str, str], scores: Sequence[float]
) -> TrackedRun:
    tracked = TrackedRun.open(
        _uri(output), str(output / "artifacts"), experiment="small", name=name, key=name, params=params
    )
    folder = output / name
    folder.mkdir()
    pq.write_table(made_run({"small": scores, "mixture": [0, 0, 0]}).results, folder / "results.parquet")
    (folder / "environment.json").write_text(json.dumps(ENVIRONMENT))
    tracked.store(folder)
    tracked.tag(tags)
    return tracked


def _uri(output: Path) -> str:
    return f"sqlite:///{output}/mlflow.db"


def _record(monkeypatch: pytest.MonkeyPatch, output: Path, into: Path, *asked: str) -> RecordedResults:
    arguments = ["record_results.py", *asked, "--into", str(into), "--tracking-uri", _uri(output)]
    monkeypatch.setattr(sys, "argv", arguments)
    record_results.main()
    return RecordedResults.read(into.parent, into.name)


def _fill(monkeypatch: pytest.MonkeyPatch, project: Path, *options: str) -> None:
    monkeypatch.setattr(sys, "argv", ["fill_results.py", "--project", str(project), *options])
    fill_results.main()


def test_two_seeds_become_a_table_of_a_document(output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _record(monkeypatch, output, tmp_path / "docs" / "results" / "small", *TWO)
    document = tmp_path / "README.md"
    document.write_text("<!-- results: small -->\n<!-- end of results -->\n")
    with pytest.raises(UsageError, match=r"tables of README\.md are not what their results give: make results"):
        _fill(monkeypatch, tmp_path, "--check")
    _fill(monkeypatch, tmp_path)
    text = document.read_text()
    sgn = next(line for line in text.splitlines() if line.startswith("| sgn"))
    assert sgn.split("|")[2].strip() == "3.00"
    assert "    python jobs/sgn.py music --data SHARDS --seed SEED\n" in text
    assert "/home" not in text
    _fill(monkeypatch, tmp_path, "--check")


def test_what_made_a_run_is_what_mlflow_knows_of_it(
    output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = _record(monkeypatch, output, tmp_path / "small", *TWO).origins
    assert (first.seed, second.seed) == ("0", "1")
    assert (first.commit, first.torch, first.machine, first.data) == (COMMIT, "2.14.1", "2 cores", "f00d")
    assert (first.steps, first.batch_size, first.run) == (300, 8, "trained-0")
    assert (first.trained_on, first.initial_weights) == ("f00d", "random weights")


def test_time_is_that_of_a_runs_parts_and_of_all_steps_where_it_was_started_more_than_once(
    output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = [_record(monkeypatch, output, tmp_path / "small", run).origins[0].seconds for run in (*TWO, "went-on")]
    assert seconds == [65, 65, 5 + 300 * 0.5]


def test_what_made_a_run_of_stages_is_what_made_all_of_them(
    output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = _record(monkeypatch, output, tmp_path / "small", "mp=staged-0", "mp=staged-1").origins
    assert (first.run, first.steps, first.seconds) == ("staged-0", 300, 40)
    assert (first.torch, first.machine) == ("2.14.0 and 2.14.1", "2 cores and 4 cores")
    assert first.initial_weights == second.initial_weights == "random weights"
    assert first.commands == ("python jobs/mp_net.py music --data SHARDS --seed 0",)


def test_a_seed_that_was_run_later_joins_those_that_were_recorded(
    output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once = _record(monkeypatch, output, tmp_path / "at_once", *TWO)
    _record(monkeypatch, output, tmp_path / "small", TWO[0])
    added = _record(monkeypatch, output, tmp_path / "small", TWO[1], "--add")
    assert added == at_once
    for asked, message in (
        ([TWO[1], "--add"], "seed 1 of sgn is there already"),
        (["deep=went-on", "--add", "--reference", "deep"], "--reference is that of what is there: leave it out"),
    ):
        with pytest.raises(UsageError, match=message):
            _record(monkeypatch, output, tmp_path / "small", *asked)
    assert RecordedResults.read(tmp_path, "small") == at_once
    with pytest.raises(UsageError, match=r"there is no .*new\.json"):
        _record(monkeypatch, output, tmp_path / "new", TWO[0], "--add")


def test_a_training_and_an_evaluation_are_two_seeds_of_a_setting(
    output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = _record(monkeypatch, output, tmp_path / "small", "sgn=evaluated", "sgn=trained-1")
    assert [origin.seed for origin in both.origins] == ["0", "1"]


def test_a_name_that_no_block_could_have_is_refused_before_anything_is_read(
    output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("two words", "naïve", "a,b"):
        with pytest.raises(UsageError, match="the NAME of --into may hold letters, digits"):
            _record(monkeypatch, output, tmp_path / name, "no-run-at-all")


def test_an_evaluation_has_the_command_of_its_training_too(
    output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (origin,) = _record(monkeypatch, output, tmp_path / "small", "evaluated").origins
    assert (origin.setting, origin.seed, origin.batch_size, origin.commit) == ("small", "0", 8, COMMIT)
    assert origin.commands == (
        "python jobs/sgn.py music --data SHARDS --seed 0",
        "python jobs/evaluate.py CHECKPOINT --mixing.num-sources 3",
    )


def test_runs_that_cannot_be_made_again_are_refused(
    output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for run, message in (
        ("running", "run running is RUNNING: only finished runs are recorded"),
        ("dirty", "its commit.*changed by 00"),
        (
            "several",
            f"run several was trained or scored by several commits, {OTHER_COMMIT} and {COMMIT}: start it anew",
        ),
        (
            "mixed-0",
            f"run mixed-0 was trained or scored by several commits, {OTHER_COMMIT} and {COMMIT}: start it anew",
        ),
        (
            "evaluated-later",
            f"trained-0 was trained by commit {COMMIT}, and evaluated-later scored it by b{{40}}: score",
        ),
    ):
        with pytest.raises(UsageError, match=message):
            _record(monkeypatch, output, tmp_path / "small", run)
    assert list(tmp_path.iterdir()) == []
