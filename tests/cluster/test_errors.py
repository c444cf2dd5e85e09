"""A user's mistake is one line, wherever in the cluster it was found."""

import signal

import pytest
import ray
import ray.data

from cocktail.cluster.connection import connect, find_cause, one_line_errors, submission_id
from cocktail.types import UsageError


def fail(row):
    raise UsageError("the shard is cut short: run the job again")


@pytest.mark.parametrize("through", ["task", "data"])
def test_a_mistake_found_in_a_worker_is_one_line(local_ray, capsys, through):
    with pytest.raises(SystemExit) as ended, one_line_errors():
        if through == "task":
            ray.get(ray.remote(fail).remote(0))
        else:
            mapped = ray.data.range(2).map(fail)
            mapped.context.raise_original_map_exception = True  # as our pipelines do
            mapped.materialize()
    assert ended.value.code == 2
    assert capsys.readouterr().err.endswith("error: the shard is cut short: run the job again\n")


def test_other_errors_keep_their_traceback():
    with pytest.raises(ZeroDivisionError), one_line_errors():
        _ = 1 / 0
    assert find_cause(ZeroDivisionError(), UsageError) is None


def test_what_is_interrupted_says_so_and_is_not_disturbed_again(capsys):
    before = signal.getsignal(signal.SIGINT)
    try:
        with pytest.raises(SystemExit) as ended, one_line_errors():
            raise KeyboardInterrupt
        signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
    assert ended.value.code == 130
    assert capsys.readouterr().err == "stopped: the same command goes on\n"


def test_an_error_line_holds_no_credentials(capsys):
    with pytest.raises(SystemExit), one_line_errors():
        raise UsageError("MLflow at https://lab:hunter2@tracking.lab/?token=hunter2 does not answer")
    assert capsys.readouterr().err == "error: MLflow at https://***@tracking.lab/?*** does not answer\n"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError("AF_UNIX path length cannot exceed 107 bytes: /a/long/path"), "AF_UNIX path length"),
        (PermissionError(13, "Permission denied", "/home/nobody/.ray"), "Permission denied: '/home/nobody/.ray'"),
    ],
)
def test_where_ray_cannot_keep_its_files_the_variables_to_set_are_named(monkeypatch, error, told):
    def start(**settings: object) -> None:
        raise error

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", start)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", "/a/long/path")
    with pytest.raises(UsageError, match=told) as refused:
        connect()
    assert "below /a/long/path: set RAY_TMPDIR to a short path" in str(refused.value)
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(OSError, match=told):
        connect()


@pytest.mark.parametrize(
    "error", [Exception("The current node timed out during startup."), ConnectionError("nobody answers at 127.0.0.1")]
)
def test_a_cluster_that_comes_up_too_slowly_is_a_line_that_says_what_to_do(monkeypatch, error):
    def start(**settings: object) -> None:
        raise error

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", start)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    said = rf"did not come up: {str(error).rstrip('.')}\. It is given half a minute.* RAY_ADDRESS"
    with pytest.raises(UsageError, match=said):
        connect()


def test_a_submitted_job_knows_its_id(monkeypatch):
    monkeypatch.delenv("RAY_JOB_CONFIG_JSON_ENV_VAR", raising=False)
    assert submission_id() is None
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", '{"metadata": {"job_submission_id": "raysubmit_x"}}')
    assert submission_id() == "raysubmit_x"
