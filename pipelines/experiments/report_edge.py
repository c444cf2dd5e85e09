"""A report is made after all that it is of is safe, and never fails the run that it is of."""

from __future__ import annotations

import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from cocktail.storage import StorageError
from cocktail.text.printable import on_one_line
from cocktail.text.redaction import redacted
from cocktail.tracking.outages import OutageError
from cocktail.tracking.run import TrackedRun

FAILURE_NAME = "report_failure.txt"
"""Artifact that says, with its traceback, why there is no report."""

T = TypeVar("T")


def reported(make: Callable[[], T], instead: T, tracked: TrackedRun, what: str) -> T:
    """What `make` returns, or `instead` if it fails: then one line is printed and the traceback is an artifact.

    An outage of MLflow or of a store is no fault of the report, and raised.
    """
    try:
        return make()
    except (OutageError, StorageError):
        raise
    except Exception as error:  # noqa: BLE001 (whatever a drawing or a page fails of: it is stored, and said)
        trace = redacted(traceback.format_exc())
        reason = on_one_line(redacted(f"{type(error).__name__}: {error}"), 300)
    print(f"{what} could not be made: {reason}. What was scored is stored; {_stored(trace, tracked)}", flush=True)
    return instead


def _stored(trace: str, tracked: TrackedRun) -> str:
    """Where the traceback is, or why it is nowhere: a disk that is full may be what the report failed of."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / FAILURE_NAME).write_text(trace, "utf-8", "backslashreplace")
            tracked.store(Path(folder))
    except OSError as error:
        return f"{FAILURE_NAME} could not be stored: {on_one_line(redacted(str(error)), 300)}"
    return f"{FAILURE_NAME} has the traceback"
