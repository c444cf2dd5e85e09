"""A container's quota counts, not only the cores of the machine that it is on."""

from __future__ import annotations

import psutil
import pytest

from cocktail import machine
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
    monkeypatch.setattr(machine, "_CGROUPS", tmp_path)
    monkeypatch.setattr(psutil.Process, "cpu_affinity", lambda self: list(range(64)), raising=False)
    assert usable_cores() == usable


def test_where_no_process_is_bound_to_cores_all_count(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "_CGROUPS", tmp_path)
    monkeypatch.delattr(psutil.Process, "cpu_affinity", raising=False)
    monkeypatch.setattr("psutil.cpu_count", lambda: 10)
    assert usable_cores() == 10


@pytest.mark.parametrize(("at_once", "nodes", "a_node"), [(None, 2, 1), ("3", 2, 2), ("2", 4, 1), ("8", 1, 8)])
def test_trials_share_nodes(monkeypatch, at_once, nodes, a_node):
    monkeypatch.setattr("cocktail.cluster.connection.num_nodes", lambda: nodes)
    monkeypatch.delenv(TRIALS_AT_ONCE, raising=False)
    if at_once is not None:
        monkeypatch.setenv(TRIALS_AT_ONCE, at_once)
    assert trials_a_node() == a_node
