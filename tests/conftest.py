"""Services that tests share: real ones, on this machine's loopback only, stopped by process id."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

from tests.services.mlflow_server import MlflowServer

PROJECT = Path(__file__).resolve().parents[1]

# Tensors of tests are small: threads cost more than they gain, a hundred times so on cores that are busy.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("RAY_AUTH_MODE", "disabled")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")


class FilesTogether(LoadScopeScheduling):
    """Of several processes (pytest -n) each takes whole files, and one all that use the Ray cluster."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return "ray" if "local_ray" in (PROJECT / file).read_text() else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> FilesTogether:
    # Files in the order of their names: the integration tests, few and long, begin early. By default files of many
    # tests go first, and at the end one process waits for the other's long ones.
    config.option.loadscopereorder = False
    return FilesTogether(config, log)


@pytest.fixture(scope="session")
def local_ray() -> Iterator[None]:
    """A Ray cluster of this process with two CPUs, whose workers import the code under test."""
    from cocktail.cluster.connection import connect

    connect()
    yield
    import ray

    ray.shutdown()


@pytest.fixture(scope="session", autouse=True)
def copied_databases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Path], object]]:
    """MLflow's empty database, which it takes seconds to make, is made once for all processes: others are copies.
    What is given puts such a copy somewhere."""
    if "cocktail.tracking.database" not in sys.modules:  # no test that was collected uses MLflow
        yield lambda path: None
        return
    from mlflow.tracking import MlflowClient

    from cocktail.tracking import database

    own = tmp_path_factory.getbasetemp()
    empty = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "empty.db"

    def put_copy(path: Path) -> None:
        database.make_database(database.sqlite_uri(empty))
        shutil.copyfile(empty, path)

    def open_copy(uri: str) -> MlflowClient:
        path = database.database_of(uri)
        if path is not None and path.name.startswith(f".{database.DATABASE}.") and not path.exists():
            put_copy(path)
        return MlflowClient(uri)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(database, "MlflowClient", open_copy)
        yield put_copy


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory, copied_databases) -> Iterator[MlflowServer]:
    """A running MLflow server. Who stops it starts it again."""
    folder = tmp_path_factory.mktemp("mlflow")
    copied_databases(folder / MlflowServer.DATABASE)
    server = MlflowServer(folder)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def forkserver() -> Iterator[ForkServerContext]:
    """Processes that start in milliseconds, in no thread of this one, with what tests kill already imported."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(PROJECT), str(PROJECT / "platform")]))
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(
            ["tests.services.shard_writer", "tests.services.killed_training", "tests.services.checkpoint_saver"]
        )
        first = context.Process(target=time.sleep, args=(0,))
        first.start()
        first.join()
        yield context
