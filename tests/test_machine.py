"""What a process has of its machine is told where the system counts otherwise, too."""

import os
import resource
import subprocess
import sys

import numpy as np
import psutil
import pytest

from cocktail.machine import peak_bytes, usable_cores


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no cores can be set apart for a process here")
def test_only_the_cores_that_are_set_apart_for_a_process_count():
    code = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
    code += "from cocktail.machine import usable_cores; print(usable_cores())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) == 1
    assert usable_cores() == len(os.sched_getaffinity(0))


def test_where_no_cores_can_be_set_apart_all_of_the_machine_count(monkeypatch):
    monkeypatch.delattr(psutil.Process, "cpu_affinity", raising=False)
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert usable_cores() == os.cpu_count()


def test_the_most_memory_in_use_is_told_in_bytes(monkeypatch):
    held = np.ones(100_000_000, np.uint8)
    used = resource.getrusage(resource.RUSAGE_SELF)
    assert len(held) < peak_bytes(used) < psutil.virtual_memory().total
    monkeypatch.setattr(sys, "platform", "darwin")
    assert peak_bytes(used) == used.ru_maxrss
