"""Which process does something, so that another one can tell later whether it is still there. Linux only."""

from __future__ import annotations

import os
import socket
from pathlib import Path

_PROC = Path("/proc")
_START_TIME = 19
"""Its place in /proc/PID/stat behind the command's name, which may hold anything."""


def this_process() -> dict[str, str] | None:
    """What tells this process from all others, ever: plain values. None where the system does not say (no Linux)."""
    started = _start_time("self")
    if started is None:
        return None
    return {**_this_host(), "pid": str(os.getpid()), "started": started}


def is_gone(process: dict[str, str]) -> bool:
    """Whether a process, as `this_process` described it, was on this host and has ended. False if nobody can tell."""
    here = _this_host()
    if process["host"] != here["host"]:
        return False
    if process["boot"] != here["boot"]:
        return True
    if process["namespace"] != here["namespace"]:  # of another container, whose processes are not seen from here
        return False
    return _start_time(process["pid"]) != process["started"]


def is_running(process: dict[str, str]) -> bool:
    """Whether a process, as `this_process` described it, is another one than this, on this host, and still there."""
    here = _this_host()
    if process == this_process() or {name: process[name] for name in here} != here:
        return False
    return _start_time(process["pid"]) == process["started"]


def _this_host() -> dict[str, str]:
    if not _PROC.is_dir():
        return {"host": socket.gethostname(), "boot": "", "namespace": ""}
    return {
        "host": socket.gethostname(),
        "boot": (_PROC / "sys/kernel/random/boot_id").read_text().strip(),
        "namespace": str((_PROC / "self/ns/pid").readlink()),
    }


def _start_time(pid: str) -> str | None:
    """In ticks since the host's start; None if there is no such process, or only what is left of one that ended."""
    try:
        state = (_PROC / pid / "stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if state[0] in "ZX" else state[_START_TIME]
