"""Services that tests share: real ones, on this machine's loopback only, stopped by process id."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Iterator
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest

from tests.mlflow_server import MlflowServer

# Tensors of tests are small: threads cost more than they gain, a hundred times so on cores that are busy.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("RAY_AUTH_MODE", "disabled")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")


@pytest.hookimpl(tryfirst=True)  # xdist reads the groups in a hook of the same name
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Several processes (pytest -n): a file's tests stay together, and all that use the Ray cluster do."""
    on_ray = {item.path for item in items if "local_ray" in getattr(item, "fixturenames", ())}
    for item in items:
        item.add_marker(pytest.mark.xdist_group("ray" if item.path in on_ray else str(item.path)))


@pytest.fixture(scope="session")
def local_ray() -> Iterator[None]:
    """A Ray cluster of this process with two CPUs, whose workers import the code under test."""
    from cocktail.train.cluster import connect

    connect()
    yield
    import ray

    ray.shutdown()


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory) -> Iterator[MlflowServer]:
    """A running MLflow server. Who stops it starts it again."""
    server = MlflowServer(tmp_path_factory.mktemp("mlflow"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def forkserver() -> Iterator[ForkServerContext]:
    """Processes that start in milliseconds, in no thread of this one, with what tests kill already imported."""
    project = Path(__file__).resolve().parents[1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(project), str(project / "platform")]))
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["tests.shard_writer", "tests.killed_training", "tests.checkpoint_saver"])
        first = context.Process(target=time.sleep, args=(0,))
        first.start()
        first.join()
        yield context
