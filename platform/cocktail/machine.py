"""What a process has of its machine, and has used of it, told alike on Linux and macOS."""

from __future__ import annotations

import ctypes
import os
import resource
import sys


def usable_cores() -> int:
    """Cores that this process may use: all of the machine where none are set apart for it, or cannot be (macOS), and no
    more than its container's quota, in which a part of a core counts as a whole one."""
    import joblib  # only here: what decodes files needs no cores to be counted, and starts often

    return joblib.cpu_count()


def peak_bytes(used: resource.struct_rusage) -> int:
    """Most memory that was in use at once, of what `getrusage` or `wait4` says: in KiB, but on macOS in bytes."""
    return used.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def keeping_memory() -> dict[str, str]:
    """Environment of a process whose memory, once freed, stays its own for what it asks for next. What
    `GLIBC_TUNABLES` of this process says comes last, and so is what counts.

    A training step asks for the same tensors each time. By itself glibc maps each that has more than 32 MB, and unmaps
    it when it is freed, so that the system has to clear all its pages anew in each step. Heaps of other threads than
    the first have no room for such tensors: all threads share the first's. And the few bytes beside an aligned tensor
    are not to be set aside for small requests, or its place would be too small for the same tensor.
    """
    kept = {"arena_max": 1, "mmap_max": 0, "trim_threshold": 1 << 40, "top_pad": 1 << 26, "tcache_count": 0}
    said = [os.environ["GLIBC_TUNABLES"]] if os.environ.get("GLIBC_TUNABLES") else []
    return {"GLIBC_TUNABLES": ":".join([*(f"glibc.malloc.{name}={value}" for name, value in kept.items()), *said])}


def give_back_memory() -> None:
    """Let go of memory that glibc's allocator keeps, though it is free: with pieces of many sizes that comes to 0.1 MB
    for each second of a recording. Elsewhere nothing is done."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
