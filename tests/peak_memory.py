"""The most memory that a process had, as Linux counts it for this process alone.

Not what getrusage says: the peak of a process that another one started begins at what the other one had in use.
"""

import os
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]


def begin_peak() -> int:
    """Let the peak of this process count from here; the bytes in use now."""
    Path("/proc/self/clear_refs").write_text("5")
    return _status_bytes("VmRSS")


def peak_bytes() -> int:
    """The most that this process had in use at once since `begin_peak`, or since its start."""
    return _status_bytes("VmHWM")


def peak_bytes_of(script: str, *arguments: object) -> int:
    """The most that a process of its own has in use while it runs a script in Python."""
    script += "\nfrom tests.peak_memory import peak_bytes\nprint(peak_bytes())\n"
    told = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(PROJECT), str(PROJECT / "platform")])},
        stdout=subprocess.PIPE,
        check=True,
    )
    return int(told.stdout.splitlines()[-1])


def _status_bytes(name: str) -> int:
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status[name].split()[0]) * 1024
