"""Where MLflow keeps runs: which places it takes, and an SQLite database's first use."""

from __future__ import annotations

import fcntl
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlflow.tracking import MlflowClient
from sqlalchemy import make_url

from cocktail.storage import require_writable, telling
from cocktail.text.redaction import redacted_uri
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
    """The file of an SQLite database; None of any other place, and of one in memory."""
    if not tracking_uri.startswith("sqlite:"):
        return None
    file = make_url(tracking_uri).database
    return None if file in (None, "", ":memory:") else Path(file)


def require_usable(tracking_uri: str) -> None:
    """Raise UsageError for a place where runs cannot be recorded: a folder of MLflow's old file store, or one where no
    database can be written."""
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


def make_database(tracking_uri: str) -> None:
    """Make the SQLite database that a URI names, with MLflow's tables, if it is not there.

    MLflow's own making of them fails, and leaves a database that no job can use, if two processes begin it at the same
    time or one is killed in it. So one at a time makes it, under another name. Raises UsageError.
    """
    require_usable(tracking_uri)
    database = database_of(tracking_uri)
    if database is None or database.exists():
        return
    logging.getLogger("alembic").setLevel(logging.WARNING)
    made = database.with_name(f".{database.name}.{os.getpid()}.new")
    with _one_at_a_time(database.with_name(f"{database.name}.lock")):
        if not database.exists():
            MlflowClient(sqlite_uri(made))
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
