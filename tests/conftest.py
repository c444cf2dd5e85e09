"""Services that tests share: real ones, on this machine's loopback only, stopped by process id."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

os.environ.setdefault("RAY_AUTH_MODE", "disabled")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")


@pytest.fixture(scope="session")
def local_ray() -> Iterator[None]:
    """A Ray cluster of this process with two CPUs, whose workers import the code under test."""
    from cocktail.train.cluster import connect

    connect()
    yield
    import ray

    ray.shutdown()
