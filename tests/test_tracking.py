"""Runs are found again, with what was stored, in a real MLflow database."""

from __future__ import annotations

from pathlib import Path

import pytest

from cocktail.tracking import TrackedRun, default_tracking_uri, find_run
from cocktail.types import UsageError


def open_run(output: Path, name: str, experiment: str = "small") -> TrackedRun:
    uri = default_tracking_uri(str(output))
    artifacts = str(output / "artifacts")
    return TrackedRun.open(uri, artifacts, experiment=experiment, name=name, key="k", params={"model.depth": 3})


@pytest.fixture(scope="module")
def output(tmp_path_factory) -> Path:
    """An MLflow database with the runs `once` and `twice` of one experiment, and `twice` of another."""
    output = tmp_path_factory.mktemp("tracked")
    for name, experiment in (("once", "small"), ("twice", "small"), ("twice", "large")):
        open_run(output, name, experiment)
    return output


def find(output: Path, name_or_id: str) -> TrackedRun:
    return find_run(default_tracking_uri(str(output)), name_or_id)


def test_a_run_is_found_by_its_name_and_by_its_id(output):
    opened = open_run(output, "once")
    assert find(output, "once") == opened
    assert find(output, opened.run_id) == opened
    assert (opened.name, opened.params) == ("once", {"model.depth": "3"})


def test_a_name_of_two_runs_is_refused_with_the_ids_and_experiments_of_both(output):
    both = [open_run(output, "twice", experiment) for experiment in ("small", "large")]
    with pytest.raises(UsageError, match="2 runs are called twice: give an id") as refused:
        find(output, "twice")
    for run, experiment in zip(both, ("small", "large"), strict=True):
        assert f"twice ({run.run_id}, of {experiment}, 2" in str(refused.value)
    assert find(output, both[1].run_id) == both[1]


@pytest.mark.parametrize("name", ["thrice", "0123456789abcdef0123456789abcdef", "o'nce", "' OR '1' = '1"])
def test_an_absent_run_is_refused_with_the_newest_runs(output, name):
    with pytest.raises(UsageError) as refused:
        find(output, name)
    assert f"no run has the name or id {name}. The newest in sqlite:" in str(refused.value)
    assert "once (" in str(refused.value)


def test_the_name_of_an_experiment_shows_its_runs_and_no_others(output):
    with pytest.raises(UsageError, match="The newest in the experiment large: twice ") as refused:
        find(output, "large")
    assert "once" not in str(refused.value)


def test_an_absent_database_is_refused_and_not_made(tmp_path):
    with pytest.raises(UsageError, match=r"there is no MLflow database .*mlflow.db: set MLFLOW_TRACKING_URI"):
        find_run(f"sqlite:///{tmp_path}/mlflow.db", "once")
    assert list(tmp_path.iterdir()) == []


def test_what_was_stored_is_fetched_and_what_was_not_is_refused_with_what_there_is(output, tmp_path):
    run = open_run(output, "stored")
    stored, fetched = tmp_path / "stored", tmp_path / "fetched"
    (stored / "examples").mkdir(parents=True)
    (stored / "examples" / "a.txt").write_text("a")
    (stored / "table.md").write_text("| a |\n")
    run.store(stored)
    assert run.stored == ["examples", "table.md"]
    fetched.mkdir()
    assert run.fetch("table.md", fetched).read_text() == "| a |\n"
    assert [path.name for path in fetched.iterdir()] == ["table.md"]
    with pytest.raises(UsageError, match=r"stored \(.*, RUNNING\) has no results.parquet: it has examples, table.md"):
        run.fetch("results.parquet", fetched)


def test_tags_are_the_last_ones_written(output):
    run = open_run(output, "tagged")
    run.tag({"checkpoint": "step-1"})
    run.tag({"checkpoint": "step-2", "data": "shards"})
    assert run.tags["checkpoint"] == "step-2"
    assert run.tags["data"] == "shards"


def test_histories_are_those_of_the_prefixes_by_step(output):
    run = open_run(output, "logged")
    run.log({"loss/total": 2.0, "look/f1": 0.5, "learning_rate": 0.1}, step=2)
    run.log({"loss/total": 3.0}, step=1)
    assert run.histories(("loss/", "look/")) == {"look/f1": [(2, 0.5)], "loss/total": [(1, 3.0), (2, 2.0)]}
