"""What a process has of its machine is told where the system counts otherwise, too."""

import os
import platform
import resource
import subprocess
import sys

import numpy as np
import psutil
import pytest

from cocktail.machine import give_back_memory, keeping_memory, peak_bytes, usable_cores


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


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc's allocator is told")
def test_memory_that_is_free_goes_back_to_the_system():
    size = 100_000  # less than what the allocator maps by itself
    pieces = [np.ones(size, np.uint8) for _ in range(2000)]
    last = np.ones(size, np.uint8)  # keeps the allocator from giving back from the end of its heap
    del pieces
    before = psutil.Process().memory_info().rss
    give_back_memory()
    assert before - psutil.Process().memory_info().rss > 100_000_000
    assert last.all()


FAULTS = """
import resource, threading
import torch

def steps():
    for _ in range(5):
        torch.ones(16_000_000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        torch.ones(16_000_000)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)

thread = threading.Thread(target=steps)  # as a worker trains in, and autograd computes gradients in
thread.start()
thread.join()
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's allocator is told")
def test_a_process_that_keeps_its_memory_is_given_no_pages_again():
    faults = {}
    for kept in (False, True):
        env = {**os.environ, **(keeping_memory() if kept else {})}
        done = subprocess.run([sys.executable, "-c", FAULTS], env=env, capture_output=True, text=True, check=True)
        faults[kept] = int(done.stdout)
    assert 10 * faults[True] < faults[False]


def test_what_is_said_of_the_allocator_already_comes_last(monkeypatch):
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.arena_max=4")
    (told,) = keeping_memory().values()
    assert told.startswith("glibc.malloc.arena_max=1:") and told.endswith(":glibc.malloc.arena_max=4")
