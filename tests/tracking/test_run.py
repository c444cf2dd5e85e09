"""Runs are found again, with what was stored, in a real MLflow database."""

from __future__ import annotations

import getpass
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from cocktail.tracking.database import default_tracking_uri
from cocktail.tracking.find import find_run
from cocktail.tracking.inputs import UsedData, log_data, names_of_data
from cocktail.tracking.processes import this_process
from cocktail.tracking.run import TrackedRun
from cocktail.types import UsageError
from tests.made.results.tracked_runs import open_run, status_of


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


def test_two_people_with_runs_of_one_name_have_a_run_each_and_find_it_again(output):
    uri = default_tracking_uri(str(output))

    def of(place: str) -> TrackedRun:
        return TrackedRun.open(uri, "", experiment="shared", name="run-1", key="k", params={}, place=place)

    first, second = of("one"), of("two")
    assert first.run_id != second.run_id
    assert (of("two"), of("one")) == (second, first)


def test_an_experiment_is_one_of_model_training_unless_it_says_otherwise(output):
    client = MlflowClient(default_tracking_uri(str(output)))
    run = open_run(output, "kind", "trained")
    assert client.get_experiment(run.experiment_id).tags["mlflow.experimentKind"] == "custom_model_development"
    before, said = (client.create_experiment(name) for name in ("of before", "of agents"))
    client.set_experiment_tag(said, "mlflow.experimentKind", "genai_development")
    assert [open_run(output, "kind", name).experiment_id for name in ("of before", "of agents")] == [before, said]
    kinds = [client.get_experiment(each).tags["mlflow.experimentKind"] for each in (before, said)]
    assert kinds == ["custom_model_development", "genai_development"]


def test_a_run_says_whose_it_is_what_was_scored_and_where_its_page_is(output):
    run = open_run(output, "described")
    run.describe("\n".join(f"| line {number:04d} |" for number in range(1000)))
    assert run.tags["mlflow.user"] == getpass.getuser()
    lines = run.tags["mlflow.note.content"].splitlines()
    assert lines[0] == "| line 0000 |" and lines[-3].startswith("| line 0") and lines[-3].endswith(" |")
    assert lines[-1] == "(more follows in table.md)"
    assert run.page == f"http://127.0.0.1:5000/#/experiments/{run.experiment_id}/runs/{run.run_id}"


def test_data_is_a_runs_input_once_with_its_whole_hash(output):
    run = open_run(output, "with data")
    used = [
        UsedData(name="toys", where="s3://bucket/toys", sha256="ab" * 32, used_for="training", facts={"clips": 7}),
        UsedData(name="toys, 3 mixtures", where="/toys", sha256="cd" * 32, used_for="testing"),
    ]
    for _ in range(2):
        log_data(run, used)
    inputs = MlflowClient(run.tracking_uri).get_run(run.run_id).inputs
    assert inputs is not None
    shown = {
        (each.tags[0].value, each.dataset.name, each.dataset.digest, each.dataset.source_type, each.dataset.source)
        for each in inputs.dataset_inputs
    }
    assert len(inputs.dataset_inputs) == 2
    assert shown == {
        ("training", "toys", ("ab" * 32)[:36], "s3", '{"uri": "s3://bucket/toys"}'),
        ("testing", "toys, 3 mixtures", ("cd" * 32)[:36], "local", '{"uri": "/toys"}'),
    }
    (profile,) = [each.dataset.profile for each in inputs.dataset_inputs if each.dataset.name == "toys"]
    assert json.loads(str(profile)) == {"sha256": "ab" * 32, "clips": 7}


def test_runs_that_log_the_same_data_at_the_same_moment_all_have_it(tmp_path):
    runs = [open_run(tmp_path, f"run-{number}") for number in range(4)]
    together = threading.Barrier(len(runs))

    def log(run: TrackedRun) -> None:
        for number in range(10):
            together.wait(60)
            log_data(run, [UsedData(name="toys", where="/toys", sha256=f"{number:064x}"[::-1], used_for="training")])

    with ThreadPoolExecutor(len(runs)) as pool:
        list(pool.map(log, runs))
    assert [len(names_of_data(run)) for run in runs] == [10] * len(runs)


def test_credentials_are_in_no_param_tag_or_artifact(output, tmp_path):
    uri = default_tracking_uri(str(output))
    secret = "https://lab:hunter2@tracking.lab/?token=hunter2"
    run = TrackedRun.open(uri, "", experiment="secret", name="secret", key="k", params={"tracking_uri": secret})
    run.tag({"command": f"job --tracking-uri {secret}"})
    run.store_json("environment.json", {"command": secret, "nested": [secret]})
    stored = run.fetch("environment.json", tmp_path).read_text()
    assert run.params["tracking_uri"] == "https://***@tracking.lab/?***"
    assert run.tags["command"] == "job --tracking-uri https://***@tracking.lab/?***"
    assert stored.count("https://***@tracking.lab/?***") == 2
    assert "hunter2" not in stored
    spaced = "sqlite:////a lab/m.db?password=two 'hunter2"
    run = TrackedRun.open(uri, "", experiment="secret", name="spaced", key="k", params={"tracking_uri": spaced})
    run.tag({"tracking_uri": spaced})
    assert run.params["tracking_uri"] == run.tags["tracking_uri"] == "sqlite:////a lab/m.db?***"


def test_a_process_that_another_has_followed_does_not_close_its_run(output):
    run = open_run(output, "followed")
    with pytest.raises(KeyboardInterrupt), run.closing():
        run.tag({"process": json.dumps({**this_process(), "host": "elsewhere"})})
        raise KeyboardInterrupt
    assert status_of(run) == "RUNNING"


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


def test_what_is_logged_again_is_not_doubled_and_what_differs_is_added(output):
    run = open_run(output, "logged again")
    run.log({"test/sdr": 1.0, "test/sir": 2.0}, step=20)
    run.log({"test/sdr": 1.0, "test/sir": 3.0, "test/sar": 4.0}, step=20)
    assert run.histories(("test/",)) == {
        "test/sar": [(20, 4.0)],
        "test/sdr": [(20, 1.0)],
        "test/sir": [(20, 2.0), (20, 3.0)],
    }


def test_times_of_a_run_that_is_scored_again_stay_those_of_the_first_time(output):
    run = open_run(output, "timed")
    run.log({"seconds/training": 60.0}, step=20, once=True)
    run.log({"seconds/training": 0.5, "seconds/evaluation": 3.0}, step=20, once=True)
    assert run.histories(("seconds/",)) == {"seconds/evaluation": [(20, 3.0)], "seconds/training": [(20, 60.0)]}
    run.log({"seconds/training": 80.0}, step=40, once=True)
    assert run.history("seconds/training") == [(20, 60.0), (40, 80.0)]


def test_a_nested_run_names_its_parent_and_is_ended_from_outside_with_the_reason(output):
    uri = default_tracking_uri(str(output))
    parent = open_run(output, "sweep")
    nested = TrackedRun.open(uri, "", experiment="small", name="trial", key="k", params={}, parent=parent.run_id)
    TrackedRun(uri, nested.run_id).finish("KILLED", {"trial.status": "stopped early at step 40"})
    assert nested.tags["mlflow.parentRunId"] == parent.run_id
    assert nested.tags["trial.status"] == "stopped early at step 40"
    assert status_of(nested) == "KILLED"
    assert status_of(parent) == "RUNNING"


def test_a_run_that_has_ended_keeps_the_time_of_its_end_if_it_is_said_again(output):
    run = open_run(output, "ended")
    run.finish("KILLED")
    seconds = run.seconds
    time.sleep(0.02)
    run.finish("KILLED")
    assert run.seconds == seconds
    run.finish("FAILED")
    assert status_of(run) == "FAILED"


def test_settings_that_are_new_are_added_to_a_run_and_those_it_has_are_left(output):
    uri = default_tracking_uri(str(output))
    for params in ({"training.log_every": 20}, {"training.log_every": 5, "model.depth": 3}):
        run = TrackedRun.open(uri, "", experiment="small", name="older", key="k", params=params)
    assert run.params == {"training.log_every": "20", "model.depth": "3"}
