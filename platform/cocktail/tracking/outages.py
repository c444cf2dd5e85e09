"""Outages of an MLflow server or database, which are waited for, as opposed to refusals."""

from __future__ import annotations

import itertools
import logging
import os
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

import requests
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import OperationalError

from cocktail.text.redaction import redacted, redacted_uri
from cocktail.types import UsageError

# MLflow would send a batch of metrics again that was carried out but not confirmed in time, and then it is there
# twice. Here only who knows how to ask again asks again.
os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
# A bar is for who looks on; in a log it is a line for each step.
if not sys.stderr.isatty():
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
# A locked database would be told as a page of traceback each time; it is told in a line.
logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)

PATIENCE_SECONDS = 600.0
"""Time to wait for MLflow, unless another is given."""
LONGEST_PAUSE_SECONDS = 30.0

ERRORS = (MlflowException, requests.RequestException, OperationalError)
"""Errors that an MLflow client raises, be it for an outage or a refusal."""

_WAITED_FOR = (
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
)
"""SQLite's codes of a database that another is using, or whose disk or file server is full or away."""

_WRITTEN_BY_ANOTHER = ("UNIQUE constraint failed", "duplicate key value violates", "Duplicate entry")
"""What SQLite, PostgreSQL and MySQL say where two processes wrote the same row at once: the first one's is there."""
_MOST_COLLISIONS = 10
"""For one answer; after these such an error is a refusal."""

T = TypeVar("T")


class OutageError(UsageError):
    """MLflow did not answer for as long as one was to wait for it."""


class RefusedError(UsageError):
    """MLflow did not do what it was asked, and will not."""


def is_outage(error: BaseException | None) -> bool:
    """Whether an error of the client means that nobody answered, or not for now (status 5xx, 429; a locked database, a
    full disk below it).

    Of an SQLite file nothing else does: one that cannot be opened, is damaged or lacks tables stays so. MLflow wraps
    the error that says so.
    """
    if error is None:
        return False
    if isinstance(error, requests.HTTPError):
        return error.response is not None and (error.response.status_code >= 500 or error.response.status_code == 429)
    if isinstance(error, OperationalError) and isinstance(error.orig, sqlite3.Error):
        return error.orig.sqlite_errorcode & 0xFF in _WAITED_FOR
    if isinstance(error, requests.RequestException | OperationalError):
        return not isinstance(error, ValueError)  # of a URL that cannot be one
    return is_outage(error.__cause__ or error.__context__)


def reason(error: BaseException) -> str:
    """The heart of a client's error, in a line."""
    return redacted((str(error).partition("(Caused by ")[2] or str(error)).splitlines()[0])[:300]


def pauses() -> Iterator[float]:
    """Seconds between attempts, without end."""
    growing = itertools.takewhile(lambda pause: pause < LONGEST_PAUSE_SECONDS, (2.0**n for n in itertools.count()))
    return itertools.chain(growing, itertools.repeat(LONGEST_PAUSE_SECONDS))


def patiently(uri: str, limit_seconds: float, ask: Callable[[], T]) -> T:
    """The answer of `ask`, which is asked again while MLflow does not answer: it has to bear that. It is asked again at
    once, ten times at most, where MLflow looked for a row, such as that of a data set that many runs have, and another
    process wrote it before MLflow did.

    Raises OutageError after `limit_seconds`, and RefusedError at once for what is neither.
    """
    uri, began = redacted_uri(uri), time.monotonic()
    has_warned = False
    collisions, waits = 0, pauses()
    while True:
        try:
            answer = ask()
        except ERRORS as error:
            if collisions < _MOST_COLLISIONS and any(said in str(error) for said in _WRITTEN_BY_ANOTHER):
                collisions += 1
                continue
            if not is_outage(error):
                raise RefusedError(f"MLflow at {uri} refuses: {reason(error)}") from error
            left = began + limit_seconds - time.monotonic()
            if left <= 0:
                raise OutageError(
                    f"MLflow at {uri} does not answer ({reason(error)}), for {limit_seconds / 60:g} minutes now: "
                    "see to it, then start the same command again, which goes on from here"
                ) from error
            if not has_warned:
                print(f"MLflow at {uri} does not answer ({reason(error)}): waiting {left / 60:.1f} minutes", flush=True)
            has_warned = True
            time.sleep(min(next(waits), left))
            continue
        if has_warned:
            print(f"MLflow at {uri} answers again, after {time.monotonic() - began:.0f} s", flush=True)
        return answer
