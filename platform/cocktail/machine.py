"""What a process has of its machine, and has used of it, told alike on Linux and macOS."""

from __future__ import annotations

import ctypes
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


def give_back_memory() -> None:
    """Let go of memory that glibc's allocator keeps, though it is free: with pieces of many sizes that comes to 0.1 MB
    for each second of a recording. Elsewhere nothing is done."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
