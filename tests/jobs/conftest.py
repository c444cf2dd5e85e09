"""What tests of jobs share."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

from cocktail.config.experiment import Experiment
from pipelines.experiments import command_line

PROJECT = Path(__file__).parents[2]


@pytest.fixture
def staged_job(monkeypatch):
    """Starts a job of this process; returns the experiment that it would run, and its stages."""
    asked: list[tuple[Experiment, tuple[str, ...]]] = []
    monkeypatch.setattr(command_line, "run", lambda experiment: asked.append((experiment, ())))
    monkeypatch.setattr(command_line, "run_stages", lambda *arguments: asked.append(arguments))

    def start(name: str, *arguments: str) -> tuple[Experiment, tuple[str, ...]]:
        monkeypatch.setattr(sys, "argv", [f"jobs/{name}.py", *arguments])
        runpy.run_path(str(PROJECT / "jobs" / f"{name}.py"), run_name="__main__")
        return asked.pop()

    return start
