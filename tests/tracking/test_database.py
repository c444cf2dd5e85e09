"""A database is made once, whole, where its folder is; what is no outage is said at once, in a line."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from sqlalchemy.exc import OperationalError

from cocktail.tracking import database as databases
from cocktail.tracking.database import database_of, default_tracking_uri, make_database, require_usable, sqlite_uri
from cocktail.tracking.find import find_run
from cocktail.tracking.outages import RefusedError, is_outage, patiently
from cocktail.tracking.run import TrackedRun
from cocktail.types import UsageError

PROJECT = Path(__file__).parents[2]
FIRST_USE = """
import sys
from cocktail.tracking.run import TrackedRun
print("ready", flush=True)
sys.stdin.readline()
TrackedRun.open(sys.argv[1], "", experiment="first", name=sys.argv[2], key="k", params={})
"""


@pytest.fixture(autouse=True)
def made_databases(monkeypatch) -> None:
    """MLflow makes them here, and none is a copy."""
    monkeypatch.setattr(databases, "MlflowClient", MlflowClient)


def test_the_database_and_the_files_lie_where_the_folder_is(tmp_path):
    output = tmp_path / "a%2Fb c?d#é@x:y 100%"
    uri = default_tracking_uri(str(output))
    run = TrackedRun.open(uri, str(output / "artifacts"), experiment="odd", name="run", key="k", params={})
    run.store_json("a.json", {"a": 1})
    assert database_of(uri) == output / "mlflow.db"
    assert {path.name for path in output.iterdir()} == {"mlflow.db", "mlflow.db.lock", "artifacts"}
    assert run.stored == ["a.json"]
    assert len(list((output / "artifacts").rglob("a.json"))) == 1
    assert find_run(uri, "run") == run


@pytest.mark.slow
def test_several_jobs_on_a_fresh_database_make_it_once(tmp_path):
    uri = sqlite_uri(tmp_path / "mlflow.db")
    jobs = [
        subprocess.Popen(
            [sys.executable, "-c", FIRST_USE, uri, f"run-{number}"],
            env=os.environ | {"PYTHONPATH": str(PROJECT / "platform")},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(4)
    ]
    for job in jobs:
        assert job.stdout is not None
        assert job.stdout.readline() == "ready\n"
    ended = [job.communicate("\n") for job in jobs]
    assert [job.returncode for job in jobs] == [0] * 4, ended
    assert "refuses" not in str(ended)
    names = [f"{run.info.run_name}" for run in MlflowClient(uri).search_runs(["1"])]
    assert sorted(names) == [f"run-{number}" for number in range(4)]


@pytest.mark.slow
def test_a_job_killed_while_it_makes_the_database_leaves_none(tmp_path):
    database = tmp_path / "mlflow.db"
    job = subprocess.Popen(
        [sys.executable, "-c", FIRST_USE, sqlite_uri(database), "run"],
        env=os.environ | {"PYTHONPATH": str(PROJECT / "platform")},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert job.stdin is not None and job.stdout is not None
    assert job.stdout.readline() == "ready\n"
    job.stdin.write("\n")
    job.stdin.flush()
    deadline = time.monotonic() + 60
    while not any(path.stat().st_size for path in tmp_path.glob(".mlflow.db.*.new")):
        assert time.monotonic() < deadline
        time.sleep(0.001)
    job.send_signal(signal.SIGKILL)
    job.communicate()
    assert not database.exists()
    make_database(sqlite_uri(database))
    assert TrackedRun.open(sqlite_uri(database), "", experiment="e", name="r", key="k", params={}).name == "r"


@pytest.mark.parametrize("pid", ["1", "8217c1"])
def test_what_a_killed_first_use_has_left_is_in_nobodys_way(tmp_path, pid):
    """In containers processes often have the same number."""
    for end in ("new", "new-journal"):
        (tmp_path / f".mlflow.db.{os.getpid() if pid == '1' else pid}.{end}").write_bytes(b"half of a database")
    make_database(sqlite_uri(tmp_path / "mlflow.db"))
    assert {path.name for path in tmp_path.iterdir()} == {"mlflow.db", "mlflow.db.lock"}


def test_a_first_use_that_fails_is_told_in_a_line_and_one_that_may_go_on_is_tried_again(tmp_path, monkeypatch, capsys):
    real, made = MlflowClient, []

    def fail_at_first(uri: str) -> MlflowClient:
        made.append(uri)
        if len(made) == 1:
            raise sqlite_error("INSERT", sqlite3.SQLITE_FULL, "database or disk is full")
        return real(uri)

    monkeypatch.setattr(databases, "MlflowClient", fail_at_first)
    make_database(sqlite_uri(tmp_path / "mlflow.db"))
    assert len(set(made)) == 2
    assert "database or disk is full): waiting" in capsys.readouterr().out

    def refuse(uri: str) -> None:
        raise MlflowException("no such revision\nand more")

    monkeypatch.setattr(databases, "MlflowClient", refuse)
    with pytest.raises(RefusedError, match=r"^MLflow at sqlite:////.*/other\.db refuses: no such revision$"):
        make_database(sqlite_uri(tmp_path / "other.db"))


@pytest.mark.parametrize("uri", ["sqlite:{folder}/m.db", "sqlite:/{folder}/m.db", "sqlite:m.db"])
def test_a_uri_of_sqlite_with_too_few_slashes_is_refused_in_a_line(tmp_path, monkeypatch, uri):
    monkeypatch.chdir(tmp_path)
    for use in (require_usable, make_database, lambda given: find_run(given, "run")):
        with pytest.raises(UsageError, match=r"four if that is a whole one: expected sqlite:///.*m\.db$"):
            use(uri.format(folder=tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_uri_of_sqlite_that_is_none_is_told_without_its_password():
    with pytest.raises(UsageError) as refused:
        require_usable("sqlite:/tmp/m.db?password=hunter2")
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("uri", ["{folder}/mlruns", "file://{folder}/mlruns", "mlruns", "./mlruns"])
def test_a_folder_of_the_old_file_store_is_refused_with_what_to_set(tmp_path, uri):
    with pytest.raises(UsageError, match=r"file store.*: set MLFLOW_TRACKING_URI.* to sqlite:////.*/mlruns/mlflow\.db"):
        require_usable(uri.format(folder=tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_database_that_cannot_be_written_is_refused_at_once(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"cannot write .*file"):
        make_database(sqlite_uri(tmp_path / "file" / "mlflow.db"))
    with pytest.raises(UsageError, match=r"cannot write .*file"):
        default_tracking_uri(str(tmp_path / "file" / "output"))


@pytest.mark.parametrize(
    "uri",
    ["databricks", "databricks://lab", "http://127.0.0.1:5000", "sqlite:///:memory:", "postgresql://lab:x@db/mlflow"],
)
def test_other_places_are_left_to_mlflow(uri):
    require_usable(uri)
    assert database_of(uri) is None


def raised_by(database: Path, statement: str) -> OperationalError:
    connection = sqlite3.connect(database, timeout=0)
    try:
        connection.execute(statement)
    except sqlite3.OperationalError as error:
        return OperationalError(statement, None, error)
    finally:
        connection.close()
    raise AssertionError("it should have failed")


def sqlite_error(statement: str, code: int, message: str) -> OperationalError:
    error = sqlite3.OperationalError(message)
    error.sqlite_errorcode = code
    return OperationalError(statement, None, error)


def test_a_full_disk_below_a_database_is_waited_for(tmp_path):
    connection = sqlite3.connect(tmp_path / "mlflow.db", isolation_level=None)
    connection.execute("CREATE TABLE t (a)")
    connection.execute("PRAGMA max_page_count = 2")
    with pytest.raises(sqlite3.OperationalError) as full:
        connection.execute("INSERT INTO t VALUES (zeroblob(100000))")
    connection.close()
    assert is_outage(OperationalError("INSERT", None, full.value))


@pytest.mark.parametrize(
    ("code", "waited_for"),
    [
        (sqlite3.SQLITE_IOERR_READ, True),  # with what SQLite adds to a code
        (sqlite3.SQLITE_PROTOCOL, True),
        (sqlite3.SQLITE_CORRUPT, False),
        (sqlite3.SQLITE_NOTADB, False),
        (sqlite3.SQLITE_READONLY, False),
        (sqlite3.SQLITE_CANTOPEN, False),
        (sqlite3.SQLITE_ERROR, False),
    ],
)
def test_a_database_out_of_reach_is_waited_for_and_a_damaged_one_is_not(code, waited_for):
    assert is_outage(sqlite_error("SELECT", code, "")) is waited_for


def test_a_locked_database_is_waited_for_and_a_broken_one_is_not(tmp_path):
    database = tmp_path / "mlflow.db"
    broken = raised_by(database, "SELECT * FROM experiments")
    assert not is_outage(broken)
    holder = sqlite3.connect(database)
    holder.execute("BEGIN EXCLUSIVE")
    assert is_outage(raised_by(database, "CREATE TABLE t (a)"))
    holder.close()

    def ask() -> None:
        raise broken

    with pytest.raises(RefusedError, match=r"MLflow at sqlite:///x\.db\?\*\*\* refuses: .*no such table: experiments"):
        patiently("sqlite:///x.db?password=hunter2", 600, ask)
