"""A container's quota counts, not only the cores of the machine that it is on."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest
from joblib.externals.loky.backend import context

from cocktail.cluster.connection import TRIALS_AT_ONCE, trials_a_node
from cocktail.machine import usable_cores


@pytest.mark.parametrize(
    ("files", "usable"),
    [
        ({}, 64),
        ({"cpu.max": "max 100000\n"}, 64),
        ({"cpu.max": "800000 100000\n"}, 8),
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "9900000 100000\n"}, 64),
        ({"cpu.max": "nonsense"}, 64),
        ({"cpu/cpu.cfs_quota_us": "800000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 8),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 64),
    ],
)
def test_usable_cores_are_those_of_the_quota(tmp_path, monkeypatch, files, usable):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    of_a_container(tmp_path, monkeypatch)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    assert usable_cores() == usable


def of_a_container(folder: Path, monkeypatch) -> None:
    """Let a folder stand for the machine's cgroups."""

    def there(path):
        return Path(str(path).replace("/sys/fs/cgroup", str(folder)))

    monkeypatch.setattr(context, "open", lambda path, *rest: there(path).open(*rest), raising=False)
    exists = os.path.exists
    monkeypatch.setattr(os.path, "exists", lambda path: exists(there(path)))


def test_where_no_process_is_bound_to_cores_all_count(tmp_path, monkeypatch):
    of_a_container(tmp_path, monkeypatch)
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.delattr(psutil.Process, "cpu_affinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 10)
    assert usable_cores() == 10


@pytest.mark.parametrize(("at_once", "nodes", "a_node"), [(None, 2, 1), ("3", 2, 2), ("2", 4, 1), ("8", 1, 8)])
def test_trials_share_nodes(monkeypatch, at_once, nodes, a_node):
    monkeypatch.setattr("cocktail.cluster.connection.num_nodes", lambda: nodes)
    monkeypatch.delenv(TRIALS_AT_ONCE, raising=False)
    if at_once is not None:
        monkeypatch.setenv(TRIALS_AT_ONCE, at_once)
    assert trials_a_node() == a_node
