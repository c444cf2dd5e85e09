"""Where MLflow keeps runs: which places it takes, and an SQLite database's first use."""

from __future__ import annotations

import fcntl
import glob
import logging
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlflow.tracking import MlflowClient
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from cocktail.storage import require_writable, telling
from cocktail.text.redaction import redacted_uri
from cocktail.tracking.outages import PATIENCE_SECONDS, patiently
from cocktail.types import UsageError

DATABASE = "mlflow.db"


def default_tracking_uri(output: str) -> str:
    """The database in the output folder. Raises UsageError if that is not on a local disk, or cannot be made."""
    if "://" in output:
        raise UsageError(
            f"the output {redacted_uri(output)} cannot hold the MLflow database: set MLFLOW_TRACKING_URI to a server, "
            "or give --tracking-uri"
        )
    folder = Path(output).expanduser().absolute()
    with telling(str(folder), "write"):
        folder.mkdir(parents=True, exist_ok=True)
    return sqlite_uri(folder / DATABASE)


def sqlite_uri(database: Path) -> str:
    """The URI of an SQLite file.

    Raises UsageError for a path that the installed SQLAlchemy would not read out of it again: before version 2.1 it
    knows no quoting.
    """
    # Only what means something else in such a URI: MLflow makes a folder of the name as it is written.
    uri = f"sqlite:///{str(database).replace('%', '%25').replace('?', '%3F')}"
    if database_of(uri) != database:
        raise UsageError(
            f"the installed SQLAlchemy cannot open a database in {database.parent}: choose an --output without % and ? "
            "in its name, or give --tracking-uri"
        )
    return uri


def database_of(tracking_uri: str) -> Path | None:
    """The file of an SQLite database; None of any other place, and of one in memory.

    Raises UsageError for a URI of SQLite that is none.
    """
    if not tracking_uri.startswith("sqlite:"):
        return None
    try:
        url = make_url(tracking_uri)
    except (ArgumentError, ValueError):  # ValueError for a port that is no number
        url = None
    if url is None or url.host:
        path = tracking_uri.removeprefix("sqlite:")
        meant = f"sqlite:///{'/' if path.startswith('/') else ''}{path.lstrip('/')}"
        raise UsageError(
            "a tracking URI of SQLite has three slashes before the path of its file, and four if that is a whole one: "
            f"expected {redacted_uri(meant)}"
        )
    file = url.database
    return None if file in (None, "", ":memory:") else Path(file)


def require_usable(tracking_uri: str) -> None:
    """Raise UsageError for a place where runs cannot be recorded: a folder of MLflow's old file store, or one where no
    database can be written."""
    if tracking_uri == "databricks":  # the one name of MLflow's that is no URI
        return
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:", tracking_uri) is None or tracking_uri.startswith("file:"):
        folder = tracking_uri.removeprefix("file://").removeprefix("file:")
        raise UsageError(
            f"{tracking_uri} is a folder as MLflow's file store was, to which MLflow writes no more: set "
            f"MLFLOW_TRACKING_URI, or --tracking-uri, to sqlite:///{Path(folder).absolute() / DATABASE} or to a server "
            "(mlflow migrate-filestore takes old runs along)"
        )
    database = database_of(tracking_uri)
    if database is not None:
        require_writable(str(database.parent.absolute()))


def make_database(tracking_uri: str, wait_seconds: float = PATIENCE_SECONDS) -> None:
    """Make the SQLite database that a URI names, with MLflow's tables, if it is not there.

    MLflow's own making of them fails, and leaves a database that no job can use, if two processes begin it at the same
    time or one is killed in it. So one at a time makes it, under another name, and removes what such a one has left.
    Raises UsageError.
    """
    require_usable(tracking_uri)
    database = database_of(tracking_uri)
    if database is None or database.exists():
        return
    logging.getLogger("alembic").setLevel(logging.WARNING)

    def make() -> Path:
        with telling(str(database), "write"):
            for left in database.parent.glob(f".{glob.escape(database.name)}.*.new*"):
                left.unlink(missing_ok=True)
        # A name of its own each time: MLflow keeps connections to what it has opened under a name.
        made = database.with_name(f".{database.name}.{uuid.uuid4().hex}.new")
        MlflowClient(sqlite_uri(made))
        return made

    with _one_at_a_time(database.with_name(f"{database.name}.lock")):
        if not database.exists():
            made = patiently(tracking_uri, wait_seconds, make)
            with telling(str(database), "write"):
                made.rename(database)


@contextmanager
def _one_at_a_time(lock: Path) -> Iterator[None]:
    """Inside, no other process of this host, or of those that share the file system, is."""
    with telling(str(lock), "lock"):
        file = lock.open("w")
        fcntl.flock(file, fcntl.LOCK_EX)
    with file:
        yield
