"""Runs outlive outages of a real MLflow server, and what was not confirmed is there once."""

from __future__ import annotations

import threading
import time

import pytest

from cocktail.tracking.find import find_run
from cocktail.tracking.outages import OutageError, RefusedError
from cocktail.tracking.run import TrackedRun
from tests.made.results.tracked_runs import status_of
from tests.services.faulty_proxy import Faults, faulty_proxy


def mend_later(faults: Faults, seconds: float) -> None:
    def mend() -> None:
        faults.status = 0

    threading.Timer(seconds, mend).start()


def test_a_job_waits_for_a_server_and_says_so_once(mlflow_server, tmp_path, capsys):
    with faulty_proxy(mlflow_server.uri.removeprefix("http://")) as (uri, faults):
        faults.status = 503
        mend_later(faults, 2.0)
        run = TrackedRun.open(uri, "", experiment="waited", name="waited", key="k", params={"a": 1})
        shown = capsys.readouterr().out
        assert shown.count("does not answer") == shown.count("answers again") == 1
        assert "waiting 10.0 minutes" in shown
        (tmp_path / "table.md").write_text("| a |")
        faults.status = 502
        mend_later(faults, 0.5)
        run.store(tmp_path)
        assert run.stored == ["table.md"]


def test_a_job_that_has_waited_its_limit_says_what_to_do(mlflow_server):
    with faulty_proxy(mlflow_server.uri.removeprefix("http://")) as (uri, faults):
        run = TrackedRun.open(uri, "", experiment="waited", name="left", key="k", params={}, wait_seconds=0.5)
        faults.status = 503
        began = time.monotonic()
        with pytest.raises(OutageError, match="start the same command again, which goes on from here"), run.closing():
            run.tag({"checkpoint": "step-1"})
        assert 0.5 <= time.monotonic() - began < 3
        faults.status = 0
        assert status_of(run) == "RUNNING"


@pytest.mark.parametrize("status", [400, 401, 403, 404])
def test_a_refusal_is_not_waited_for(mlflow_server, status):
    with faulty_proxy(mlflow_server.uri.removeprefix("http://")) as (uri, faults):
        run = TrackedRun.open(uri, "", experiment="waited", name="refused", key="k", params={})
        faults.status = status
        with pytest.raises(RefusedError, match=f"MLflow at {uri} refuses: .*{status}"):
            run.tag({"checkpoint": "step-1"})


@pytest.mark.parametrize("unconfirmed", ["experiments/create", "runs/create", "log-batch"])
def test_a_run_whose_making_was_not_confirmed_is_one_run_with_all_its_settings(mlflow_server, unconfirmed):
    name = f"unconfirmed {unconfirmed}"
    with faulty_proxy(mlflow_server.uri.removeprefix("http://")) as (uri, faults):
        faults.unconfirmed = unconfirmed
        run = TrackedRun.open(uri, "", experiment=name, name=name, key="k", params={"model.depth": 3})
        assert not faults.unconfirmed
    assert find_run(mlflow_server.uri, name).run_id == run.run_id
    assert find_run(mlflow_server.uri, name).params == {"model.depth": "3"}


def test_scores_whose_logging_was_not_confirmed_are_there_once(mlflow_server):
    with faulty_proxy(mlflow_server.uri.removeprefix("http://")) as (uri, faults):
        run = TrackedRun.open(uri, "", experiment="waited", name="scores", key="k", params={})
        faults.unconfirmed = "log-batch"
        faults.carried_out.clear()
        run.log({"test/sdr": 1.0}, 20)
        batches = [path for path in faults.carried_out if path.endswith("log-batch")]
        assert run.history("test/sdr") == [(20, 1.0)]
    assert len(batches) == 1
