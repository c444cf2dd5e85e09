"""Names of processes, by which another one can tell later whether they are still there."""

from __future__ import annotations

import getpass
import os
import socket
from pathlib import Path

import psutil

_BOOT, _NAMESPACE = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
"""Files of Linux that psutil does not read: the start of the host, and the namespace of its processes."""


def this_process() -> dict[str, str]:
    """A name that this process alone has, ever: plain values."""
    started = _start_time(os.getpid())
    assert started is not None
    return {**_this_host(), "pid": str(os.getpid()), "started": started}


def this_user() -> str:
    """Name of the user that this process is of, or the number of one that has none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # of a container that was started as a user whom its system does not know
        return str(os.getuid())


def is_gone(process: dict[str, str]) -> bool:
    """Whether a process, as `this_process` described it, was on this host and has ended. False if nobody can tell.

    Nobody can of another container, whose processes are not seen from here, or of another start of a host of this name:
    it may be an earlier one of this host, or that of a clone, or of a pod, on which the process still is.
    """
    return _is_here(process) and _start_time(int(process["pid"])) != process["started"]


def is_running(process: dict[str, str]) -> bool:
    """Whether a process, as `this_process` described it, is another one than this, on this host, and still there."""
    return process != this_process() and _is_here(process) and _start_time(int(process["pid"])) == process["started"]


def _is_here(process: dict[str, str]) -> bool:
    return all(process[name] == value for name, value in _this_host().items())


def _this_host() -> dict[str, str]:
    return {
        "host": socket.gethostname(),
        "boot": _BOOT.read_text().strip() if psutil.LINUX else "",
        "namespace": str(_NAMESPACE.readlink()) if psutil.LINUX else "",
    }


def _start_time(pid: int) -> str | None:
    """Start of a process in hundredths of a second; None if there is no such process, or only what is left of one that
    ended."""
    try:
        process = psutil.Process(pid)
        if process.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
            return None
        # On Linux psutil adds the time of the host's start, which is another one once somebody sets the clock.
        return str(round(100 * (process.create_time() - (psutil.boot_time() if psutil.LINUX else 0))))
    except psutil.NoSuchProcess:
        return None
