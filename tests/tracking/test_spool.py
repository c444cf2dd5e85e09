"""Metrics reach a real MLflow server once each, whatever happens to it or to who logs them."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cocktail.tracking import outages
from cocktail.tracking.outages import OutageError
from cocktail.tracking.run import TrackedRun
from cocktail.tracking.spool import UNSENT, MetricSpool
from cocktail.types import UsageError
from tests.services.faulty_proxy import faulty_proxy

PROJECT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch) -> None:
    monkeypatch.setattr(outages, "LONGEST_PAUSE_SECONDS", 1.0)


def open_run(uri: str, name: str, wait_seconds: float = 60.0) -> TrackedRun:
    return TrackedRun.open(uri, "", experiment="spool", name=name, key="k", params={}, wait_seconds=wait_seconds)


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def unsent(folder: Path) -> list[list]:
    return json.loads((folder / UNSENT).read_text())


def test_a_server_that_stops_and_comes_back_has_every_point_once(mlflow_server, tmp_path, capsys):
    run = open_run(mlflow_server.uri, "stopped")
    with MetricSpool(run, str(tmp_path)) as spool:
        for step in range(1, 11):
            spool.log({"loss/total": step / 8, "look/f1": -step}, step)
        wait_until(lambda: len(run.history("loss/total")) == 10)
        mlflow_server.stop()
        began = time.monotonic()
        for step in range(11, 1411):
            spool.log({"loss/total": step / 8, "look/f1": -step}, step)
        spool.keep()
        assert time.monotonic() - began < 1.0, "training waited for MLflow"
        wait_until(lambda: "does not answer" in capsys.readouterr().out)
        assert len(unsent(tmp_path)) == 2800
        mlflow_server.start()
    assert run.history("loss/total") == [(step, step / 8) for step in range(1, 1411)]
    assert run.history("look/f1") == [(step, -step) for step in range(1, 1411)]
    shown = capsys.readouterr().out
    assert shown.count("answers again") == 1
    assert "2800 metric points sent" in shown
    assert not (tmp_path / UNSENT).exists()


def test_a_batch_that_was_carried_out_but_not_confirmed_is_not_sent_twice(mlflow_server, tmp_path):
    with faulty_proxy(mlflow_server.uri.removeprefix("http://")) as (uri, faults):
        run = open_run(uri, "unconfirmed")
        faults.unconfirmed = "log-batch"
        faults.carried_out.clear()
        with MetricSpool(run, str(tmp_path)) as spool:
            spool.log({"loss/total": 1.0}, 1)
            wait_until(lambda: not faults.unconfirmed)
            spool.log({"loss/total": 2.0}, 2)
    assert open_run(mlflow_server.uri, "unconfirmed").history("loss/total") == [(1, 1.0), (2, 2.0)]
    asked = [path.rpartition("/")[2] for path in faults.carried_out]
    assert asked == ["get", "log-batch", "get", "log-batch"], "the first batch was sent again"


@pytest.mark.parametrize("status", [500, 502, 503, 429])
def test_an_answer_that_may_change_is_waited_for(mlflow_server, tmp_path, status, capsys):
    with faulty_proxy(mlflow_server.uri.removeprefix("http://")) as (uri, faults):
        run = open_run(uri, f"status-{status}")
        faults.status = status
        with MetricSpool(run, str(tmp_path)) as spool:
            spool.log({"loss/total": 1.0}, 1)
            wait_until(lambda: "does not answer" in capsys.readouterr().out)
            faults.status = 0
        assert run.history("loss/total") == [(1, 1.0)]


@pytest.mark.parametrize("status", [400, 403, 404])
def test_a_refusal_is_not_tried_again_and_ends_training(mlflow_server, tmp_path, status):
    with faulty_proxy(mlflow_server.uri.removeprefix("http://")) as (uri, faults):
        run = open_run(uri, f"refused-{status}")
        faults.status = status
        with pytest.raises(UsageError, match=f"does not take the metrics of run {run.run_id}: .*{status}"):  # noqa: SIM117
            with MetricSpool(run, str(tmp_path)) as spool:
                spool.log({"loss/total": 1.0}, 1)


def test_a_name_that_mlflow_does_not_take_is_told_at_the_next_step(tmp_path):
    run = open_run(f"sqlite:///{tmp_path}/mlflow.db", "named")
    with pytest.raises(UsageError, match=r"Invalid value \"loss,total\""), MetricSpool(run, str(tmp_path)) as spool:
        spool.log({"loss,total": 1.0}, 1)
        while True:
            spool.log({"loss/total": 1.0}, 1)


def test_steps_that_are_repeated_after_a_restart_are_dropped(tmp_path):
    run = open_run(f"sqlite:///{tmp_path}/mlflow.db", "repeated")
    with MetricSpool(run, str(tmp_path)) as spool:
        spool.log({"loss/total": 1.0}, 2)
        spool.log({"loss/total": 0.5}, 4)
        spool.log({"look/f1": 0.0}, 4)
    with MetricSpool(run, str(tmp_path)) as spool:
        for step in (2, 4, 6):
            spool.log({"loss/total": 9.0, "look/f1": 1.0}, step)
        spool.log({"loss/total": 7.0}, 6)
    assert run.history("loss/total") == [(2, 1.0), (4, 0.5), (6, 9.0)]
    assert run.history("look/f1") == [(4, 0.0), (6, 1.0)]


TRAINING = """
import sys, time
from cocktail.tracking.spool import MetricSpool
from cocktail.tracking.run import TrackedRun
uri, run_id, folder = sys.argv[1:]
spool = MetricSpool(TrackedRun(uri, run_id), folder)
for step in range(1, 7):
    spool.log({"loss/total": step / 8}, step)
    if step == 4:
        spool.keep()
print("logged", flush=True)
time.sleep(60)
"""


def test_what_a_killed_process_had_not_sent_is_sent_by_the_next_one(mlflow_server, tmp_path):
    run = open_run(mlflow_server.uri, "killed")
    with MetricSpool(run, str(tmp_path)) as spool:
        spool.log({"loss/total": 1 / 8}, 1)
    with faulty_proxy("127.0.0.1:1") as (uri, faults):
        faults.status = 503
        training = subprocess.Popen(
            [sys.executable, "-c", TRAINING, uri, run.run_id, str(tmp_path)],
            env=os.environ | {"PYTHONPATH": str(PROJECT / "platform")},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert training.stdout is not None
        while "logged" not in training.stdout.readline():
            assert training.poll() is None
        os.kill(training.pid, signal.SIGKILL)
        training.wait()
        training.stdout.close()
    assert [point[3] for point in unsent(tmp_path)] == [1, 2, 3, 4]
    with MetricSpool(run, str(tmp_path)) as spool:  # goes on from the checkpoint of step 4
        for step in (5, 6):
            spool.log({"loss/total": step / 8}, step)
    assert run.history("loss/total") == [(step, step / 8) for step in range(1, 7)]
    assert not (tmp_path / UNSENT).exists()


def test_a_server_that_stays_away_costs_the_end_of_training_its_limit_and_no_point(mlflow_server, tmp_path):
    run = open_run(mlflow_server.uri, "away", wait_seconds=1.5)
    with faulty_proxy(mlflow_server.uri.removeprefix("http://")) as (uri, faults):
        faults.status = 503
        away = TrackedRun(uri, run.run_id, run.wait_seconds)
        began = time.monotonic()
        with pytest.raises(OutageError, match=f"1 metric points: they are kept in {tmp_path}/{UNSENT}"):  # noqa: SIM117
            with MetricSpool(away, str(tmp_path)) as spool:
                spool.log({"loss/total": 1.0}, 1)
        assert 1.4 < time.monotonic() - began < 5
    MetricSpool(run, str(tmp_path)).close()
    assert run.history("loss/total") == [(1, 1.0)]
    assert not (tmp_path / UNSENT).exists()


def test_an_error_of_training_is_not_hidden_by_an_outage_and_what_was_logged_before_it_is_kept(tmp_path, capsys):
    run = open_run(f"sqlite:///{tmp_path}/mlflow.db", "both")
    gone = TrackedRun("http://127.0.0.1:1", run.run_id, wait_seconds=0.2)
    with pytest.raises(ZeroDivisionError), MetricSpool(gone, str(tmp_path)) as spool:
        spool.log({"loss/total": 1.0}, 1)
        raise ZeroDivisionError
    assert "has not taken 1 metric points" in capsys.readouterr().out
    MetricSpool(run, str(tmp_path)).close()
    assert run.history("loss/total") == [(1, 1.0)]


def test_an_error_of_training_stays_what_it_is_and_what_was_logged_before_is_sent(tmp_path):
    run = open_run(f"sqlite:///{tmp_path}/mlflow.db", "failed")
    with pytest.raises(ZeroDivisionError), MetricSpool(run, str(tmp_path)) as spool:
        spool.log({"loss/total": 1.0}, 1)
        raise ZeroDivisionError
    assert run.history("loss/total") == [(1, 1.0)]


@pytest.mark.slow  # SQLite waits 20 s before it says so
def test_a_locked_database_is_waited_for(tmp_path, capsys):
    run = open_run(f"sqlite:///{tmp_path}/mlflow.db", "locked")
    lock = sqlite3.connect(tmp_path / "mlflow.db", isolation_level=None)
    with MetricSpool(run, str(tmp_path)) as spool:
        lock.execute("BEGIN EXCLUSIVE")
        spool.log({"loss/total": 1.0}, 1)
        wait_until(lambda: "does not answer ((sqlite3.OperationalError) database is locked" in capsys.readouterr().out)
        lock.execute("ROLLBACK")
    lock.close()
    assert run.history("loss/total") == [(1, 1.0)]
