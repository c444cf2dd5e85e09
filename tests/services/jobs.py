"""Jobs in this process: a process of their own imports for seconds what is imported here."""

from __future__ import annotations

import contextlib
import io
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from tests.services.checkout import PROJECT


def start_job(name: str, *arguments: str) -> None:
    """Run jobs/`name`.py as `python jobs/NAME.py ARGUMENTS` does, and raise what it ends with."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [f"jobs/{name}.py", *arguments])
        patch.setattr(sys, "path", sys.path.copy())  # to which jobs add
        runpy.run_path(str(PROJECT / "jobs" / f"{name}.py"), run_name="__main__")


def run_job(name: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """What `subprocess.run` would give of a job in a folder, if it exits by itself; what it raises else is raised."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.chdir(cwd), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            start_job(name, *arguments)
        except SystemExit as ended:
            assert ended.code is None or isinstance(ended.code, int), ended.code
            code = ended.code or 0
    return subprocess.CompletedProcess([name, *arguments], code, out.getvalue(), err.getvalue())
