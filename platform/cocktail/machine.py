"""What a process has of its machine, and has used of it, told alike on Linux and macOS."""

from __future__ import annotations

import math
import resource
import sys
from pathlib import Path

import psutil

_CGROUPS = Path("/sys/fs/cgroup")
_QUOTAS = (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"))
"""Files of a container's quota and period in microseconds, of cgroups v2 and v1."""


def usable_cores() -> int:
    """Cores that this process may use: all of the machine where none are set apart for it, or cannot be (macOS), and no
    more than its container's quota, in which a part of a core counts as a whole one."""
    process = psutil.Process()
    cores = len(process.cpu_affinity()) if hasattr(process, "cpu_affinity") else psutil.cpu_count() or 1
    quota = _quota()
    return cores if quota is None else max(min(cores, math.ceil(quota)), 1)


def peak_bytes(used: resource.struct_rusage) -> int:
    """Most memory that was in use at once, of what `getrusage` or `wait4` says: in KiB, but on macOS in bytes."""
    return used.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _quota() -> float | None:
    """Cores that the container's quota comes to; None if there is none."""
    for names in _QUOTAS:
        try:
            quota, period = " ".join((_CGROUPS / name).read_text() for name in names).split()
            if quota not in ("max", "-1"):
                return int(quota) / int(period)
        except (OSError, ValueError, ZeroDivisionError):  # no such cgroups
            continue
    return None
