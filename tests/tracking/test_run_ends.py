"""A run ends as its job does: by itself, by a signal, or by the next run that finds its process gone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from cocktail.tracking import run as tracking
from cocktail.tracking.processes import is_gone, this_process
from cocktail.tracking.run import TrackedRun
from cocktail.tracking.signals import TerminatedError
from cocktail.types import UsageError
from tests.made.results.tracked_runs import open_run, status_of

PROJECT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def output(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("tracked")


@pytest.mark.parametrize(
    ("raised", "status"),
    [(ValueError, "FAILED"), (KeyboardInterrupt, "KILLED"), (TerminatedError, "KILLED"), (SystemExit, "FAILED")],
)
def test_a_run_ends_as_its_job_does(output, raised, status):
    run = open_run(output, f"raised {raised.__name__}")
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(raised), run.closing():
        assert signal.getsignal(signal.SIGTERM) != before
        raise raised
    assert status_of(run) == status
    assert signal.getsignal(signal.SIGTERM) == before
    with run.closing():
        pass
    assert status_of(run) == "FINISHED"


@pytest.fixture
def heeds_ctrl_c() -> Iterator[None]:
    """Ctrl-C as in a terminal: what a shell starts in the background ignores it, tests as well."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heeds_ctrl_c")
def test_told_to_end_again_a_job_first_closes_its_run(output, monkeypatch):
    run = open_run(output, "interrupted twice")
    finish = TrackedRun.finish

    def interrupted(self: TrackedRun, status: str) -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
        finish(self, status)

    monkeypatch.setattr(TrackedRun, "finish", interrupted)
    with pytest.raises(KeyboardInterrupt), run.closing():
        signal.raise_signal(signal.SIGINT)
    assert status_of(run) == "KILLED"
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_a_job_that_was_started_to_ignore_ctrl_c_ignores_it(output):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with open_run(output, "in the background").closing():
            signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_another_thread_than_the_main_one_closes_its_run_and_leaves_signals_alone(output):
    run = open_run(output, "of a thread")
    seen = []

    def job() -> None:
        with run.closing():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=job)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGTERM)]
    assert status_of(run) == "FINISHED"


DRIVER = """
import sys, time
from cocktail.tracking.run import TrackedRun
run = TrackedRun.open(sys.argv[1], "", experiment="ended", name=sys.argv[2], key="k", params={})
with run.closing():
    print(run.run_id, flush=True)
    time.sleep(60)
"""


def start_driver(uri: str, name: str) -> tuple[subprocess.Popen[str], TrackedRun]:
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, uri, name],
        env=os.environ | {"PYTHONPATH": str(PROJECT / "platform")},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert driver.stdout is not None
    line = driver.stdout.readline()
    while " " in line:
        line = driver.stdout.readline()
    return driver, TrackedRun(uri, line.strip())


def test_sigterm_ends_a_run_as_killed_at_once_and_sigkill_by_the_next_run_on_this_host(
    mlflow_server, capsys, monkeypatch
):
    monkeypatch.setattr(tracking, "GOING_SECONDS", 0.1)
    terminated, terminated_run = start_driver(mlflow_server.uri, "terminated")
    terminated.send_signal(signal.SIGTERM)
    # With a traceback, as nothing catches it here. Ray gives 3 s; on a busy machine all takes longer.
    assert terminated.wait(10) == 1
    assert status_of(terminated_run) == "KILLED"

    alive, alive_run = start_driver(mlflow_server.uri, "alive")
    killed, killed_run = start_driver(mlflow_server.uri, "killed")
    killed.kill()
    killed.wait()
    assert status_of(killed_run) == "RUNNING"
    TrackedRun.open(mlflow_server.uri, "", experiment="ended", name="next", key="k", params={})
    assert status_of(killed_run) == "KILLED"
    assert f"run killed ({killed_run.run_id}) was RUNNING without its process" in capsys.readouterr().out
    assert status_of(alive_run) == "RUNNING"

    def open_alive() -> TrackedRun:
        return TrackedRun.open(mlflow_server.uri, "", experiment="ended", name="alive", key="k", params={})

    with pytest.raises(UsageError, match=f"run alive is being done by process {alive.pid} on"):
        open_alive()
    alive.kill()
    alive.wait()
    assert open_alive().run_id == alive_run.run_id
    for driver in (terminated, alive, killed):
        assert driver.stdout is not None
        driver.stdout.close()


def test_a_process_is_gone_if_it_was_here_and_is_no_more():
    here = this_process()
    assert not is_gone(here)
    assert is_gone({**here, "started": "1"}), "another process has its number"
    assert is_gone({**here, "pid": str(2**22 + 1)})
    ended = {**here, "pid": str(2**22 + 1)}
    assert not is_gone({**ended, "host": "another"})
    assert not is_gone({**ended, "namespace": "pid:[1]"}), "another container's processes cannot be seen"
    assert not is_gone({**ended, "boot": "another"}), "a clone, or a pod, of this host's name may have it"


def test_a_run_that_a_clone_of_this_host_has_open_is_not_closed(tmp_path):
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    clones, ended = (
        TrackedRun.open(uri, "", experiment="clones", name=name, key="k", params={}) for name in ("clones", "ended")
    )
    gone = {**this_process(), "pid": str(2**22 + 1)}
    ended.tag({"process": json.dumps(gone)})
    clones.tag({"process": json.dumps({**gone, "boot": "another"})})
    TrackedRun.open(uri, "", experiment="clones", name="next", key="k", params={})
    assert [status_of(run) for run in (clones, ended)] == ["RUNNING", "KILLED"]


@pytest.mark.skipif(not psutil.LINUX, reason="elsewhere a process's start is a time of day")
def test_a_process_is_still_there_when_the_clock_was_set(monkeypatch):
    here = this_process()
    monkeypatch.setattr("psutil._psplatform.boot_time", lambda: 1000.0)
    assert not is_gone(here)


def test_a_zombie_is_gone():
    child = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    here = this_process()
    assert is_gone({**here, "pid": str(child.pid)})
    child.wait()
