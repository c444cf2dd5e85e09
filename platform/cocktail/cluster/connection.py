"""Connecting to Ray, so that every process runs the code that was shipped with the job."""

from __future__ import annotations

import json
import logging
import math
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import NoReturn

import ray
import ray.exceptions

from cocktail.machine import usable_cores
from cocktail.text.printable import on_lines
from cocktail.text.redaction import redacted, redacted_command, redacted_uri
from cocktail.types import UsageError

PROJECT = Path(__file__).resolve().parents[3]
_RAY_ADVICE = "Failed to apply UDF transform"
_STARVATION_WARNING = "RAY_DATA_STARVATION_WARNING_DELAY_S"
"""After how long Ray Data warns that a pipeline may hang for want of CPUs. Never: it deals the CPUs that are left to
the training processes in whole numbers, so where there are fewer than processes, each is told that it gets none; but
one task of an idle pipeline always runs, and what it needs was required before the start."""
_OUT_OF_MEMORY_RETRIES = "RAY_task_oom_retries"
"""How often Ray starts a task again that it ended because memory ran short. By its own default, for ever."""
_STARTING_AT_ONCE = "RAY_worker_maximum_startup_concurrency"
"""How many processes Ray starts at a time: by its own default as many as there are CPUs. From four times as many on it
warns of too many processes, and most of a sweep's, which only wait for others, hold no CPU."""
_FEWEST_STARTING_AT_ONCE = 8
TRIALS_AT_ONCE = "COCKTAIL_TRIALS_AT_ONCE"
"""Set in the process of a sweep's trial: with how many trials, itself among them, it shares the cluster."""
_STARTED_TOO_SLOWLY = "timed out during startup"
"""In the message of the bare Exception that Ray raises where its processes do not answer within 30 s of their start."""
_JOB_CONFIG = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Set in the process of a submitted job: what Ray knows of it, as JSON."""
SHIPPED = "working_dir_files" in PROJECT.parts
"""Whether this code is the copy that Ray made of a job's working directory."""


def connect(tracking_uri: str | None = None, *, show_workers: bool = True) -> None:
    """Connect to the cluster of the submitted job or of RAY_ADDRESS; without either, start one on this machine.

    Workers import `cocktail` and `pipelines` from where this process does. A job that was submitted without a
    working directory ran because `ray start` was called in a checkout; it is told what it uses. What workers print
    is shown here, too, or only in the Ray dashboard. Raises UsageError if the tracking database is a local file that
    the other nodes of the cluster cannot reach.
    """
    if not ray.is_initialized():
        _start(show_workers)
    if tracking_uri and tracking_uri.startswith("sqlite:") and num_nodes() > 1:
        raise UsageError(
            f"training may run on any of the cluster's {num_nodes()} nodes, and they cannot write to "
            f"{redacted_uri(tracking_uri)}: set MLFLOW_TRACKING_URI to a server"
        )


def _start(show_workers: bool) -> None:
    if _JOB_CONFIG in os.environ and not SHIPPED:
        print(
            f"no --working-dir was given: this runs the code in {PROJECT} on the cluster, not yours. To ship yours: "
            f"ray job submit --working-dir . -- python {redacted_command([_relative(part) for part in sys.argv])}",
            file=sys.stderr,
        )
    prepare_train()
    os.environ.setdefault(_OUT_OF_MEMORY_RETRIES, "5")
    if usable_cores() < _FEWEST_STARTING_AT_ONCE:
        os.environ.setdefault(_STARTING_AT_ONCE, str(_FEWEST_STARTING_AT_ONCE))

    def know_the_cluster() -> None:
        # Train's cleaner asks the state API without an address. That finds the last `ray start` on this machine, and
        # if it is another cluster, this run's controller looks dead there and its workers lose their resources.
        os.environ["RAY_ADDRESS"] = ray.get_runtime_context().gcs_address

    # A shipped working directory may lie elsewhere on each node; Ray adds it to the path and starts workers in it.
    python_path = "platform" if SHIPPED else os.pathsep.join([str(PROJECT), str(PROJECT / "platform")])
    # Not Ray's own default, which first looks for the last cluster started here and waits minutes for a dead one.
    address = os.environ.get("RAY_ADDRESS", "local")
    with _telling_what_to_set() if address == "local" else nullcontext():
        ray.init(
            address=address,
            runtime_env={
                "env_vars": {"PYTHONPATH": python_path, _STARVATION_WARNING: "inf"},
                "worker_process_setup_hook": know_the_cluster,
            },
            logging_level=logging.WARNING,
            log_to_driver=show_workers,
        )


@contextmanager
def _telling_what_to_set() -> Iterator[None]:
    """Turn what keeps Ray from starting a cluster of its own, which keeps files in two folders, into a UsageError."""
    try:
        yield
    except ConnectionError as error:
        raise _did_not_come_up(error) from error
    except OSError as error:
        raise UsageError(
            f"Ray cannot start on this machine: {error}. It keeps sockets, whose paths have 107 letters at most, below "
            f"{os.environ.get('RAY_TMPDIR') or tempfile.gettempdir()}: set RAY_TMPDIR to a short path that you can "
            f"write to (TMPDIR, too), and HOME, now {os.environ.get('HOME', 'not set')}, to a folder where it can keep "
            "its token"
        ) from error
    except Exception as error:
        if _STARTED_TOO_SLOWLY not in str(error):
            raise
        raise _did_not_come_up(error) from error


def _did_not_come_up(error: Exception) -> UsageError:
    return UsageError(
        f"Ray began to start a cluster on this machine, and it did not come up: {str(error).rstrip('.')}. It is given "
        f"half a minute, which is short where much else runs (load {os.getloadavg()[0]:.0f}, {usable_cores()} cores): "
        "give the same command again when less does, or RAY_ADDRESS of a cluster that is up"
    )


def prepare_train() -> None:
    """Set what Ray Train has to know in the process that starts it, before it is used."""
    # How soon the end of training, or of a worker, is noticed.
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")
    # Otherwise what a worker prints is shown twice.
    os.environ.setdefault("RAY_TRAIN_ENABLE_PRINT_PATCH", "0")
    # It would tell workers of nodes that are to go, and nobody listens: checkpoints are written as they are. Starting
    # it prints what looks like an error of every run.
    os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
    quiet_ray()


def quiet_ray() -> None:
    """Keep Ray's own progress out of this process's log: what a user follows are our lines."""
    for name in ("ray.data", "ray.train"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # That there are no progress bars, and that a token is asked for, is said as a warning, and is as it should be.
    logging.getLogger("ray.data._internal.progress").setLevel(logging.ERROR)
    logging.getLogger("ray._private.authentication.authentication_token_setup").addFilter(_is_no_token_in_use)
    # What an argument of our calls of Ray Data might be, which nobody who starts a job can set.
    logging.getLogger("ray.data._internal.issue_detection.issue_detector_manager").addFilter(_is_no_advice_on_memory)


def _is_no_token_in_use(record: logging.LogRecord) -> bool:
    return "Token authentication is enabled" not in record.getMessage()


def _is_no_advice_on_memory(record: logging.LogRecord) -> bool:
    return "`memory=" not in record.getMessage()


def _relative(argument: str) -> str:
    path = Path(argument)
    return str(path.relative_to(PROJECT)) if path.is_absolute() and path.is_relative_to(PROJECT) else argument


def submission_id() -> str | None:
    """The id that `ray job submit` gave the job that this process is; None of a process that nobody submitted."""
    return json.loads(os.environ.get(_JOB_CONFIG, "{}")).get("metadata", {}).get("job_submission_id")


def num_nodes() -> int:
    """Nodes of the cluster that are up."""
    return sum(node["Alive"] for node in ray.nodes())


def trials_at_once() -> int | None:
    """Number of trials of a sweep that share the cluster with this process's; None if it is no trial's."""
    number = os.environ.get(TRIALS_AT_ONCE)
    return None if number is None else int(number)


def trials_a_node() -> int:
    """Most trials that share a node with this process's, itself among them; 1 if it is no trial's."""
    trials = trials_at_once()
    return 1 if trials is None else math.ceil(trials / max(num_nodes(), 1))


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Print a UsageError, also one that Ray brought from a worker, as one line, and exit with status 2.

    An interrupt (Ctrl-C; SIGTERM while a run is open) is another line, and status 130.
    """
    try:
        yield
    except KeyboardInterrupt:
        print("stopped: the same command goes on", file=sys.stderr)
        exit_interrupted()
    except Exception as error:
        mendable = find_cause(error, UsageError)
        if mendable is None:
            raise
        # Ray Data adds advice of its own to the message.
        print(f"error: {on_lines(redacted(str(mendable).split(_RAY_ADVICE)[0].rstrip()))}", file=sys.stderr)
        sys.exit(2)


def exit_interrupted() -> NoReturn:
    """Exit with status 130, as programs do that Ctrl-C ends. Pressed again, it does not disturb Ray's end."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.exit(130)


def find_cause(error: BaseException, kind: type[BaseException]) -> BaseException | None:
    """The first error of a kind among an error and what caused it, in this process or in one of Ray's workers."""
    waiting, seen = [error], set()
    while waiting:
        current = waiting.pop(0)
        # Ray's own wrapper is of the wrapped error's class too, but its message is a whole traceback.
        if isinstance(current, kind) and not isinstance(current, ray.exceptions.RayTaskError):
            return current
        seen.add(id(current))
        causes = [current.__cause__, getattr(current, "cause", None)]
        causes += getattr(current, "worker_failures", {}).values()
        waiting += [cause for cause in causes if isinstance(cause, BaseException) and id(cause) not in seen]
    return None
