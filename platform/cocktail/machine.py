"""What a process has of its machine, and has used of it, told alike on Linux and macOS."""

from __future__ import annotations

import resource
import sys

import psutil


def usable_cores() -> int:
    """Cores that this process may run on: all of the machine where none are set apart for it, or cannot be (macOS)."""
    process = psutil.Process()
    return len(process.cpu_affinity()) if hasattr(process, "cpu_affinity") else psutil.cpu_count() or 1


def peak_bytes(used: resource.struct_rusage) -> int:
    """Most memory that was in use at once, of what `getrusage` or `wait4` says: in KiB, but on macOS in bytes."""
    return used.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
