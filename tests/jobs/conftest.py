"""What a training job would do, seen from its command line."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from cocktail.config.experiment import Experiment
from pipelines.experiments import command_line
from tests.services.jobs import start_job


class AskedJob:
    """Starts a job of this process, by its name and arguments; returns the experiment that it would run."""

    stages: Sequence[str] = ()
    """The stages that the job started last would run, of a model that learns in stages."""

    def __call__(self, name: str, *arguments: str) -> Experiment:
        self._asked: list[Experiment] = []
        self.stages = ()
        start_job(name, *arguments)
        (asked,) = self._asked
        return asked

    def run(self, experiment: Experiment, stages: Sequence[str] = ()) -> None:
        """Stands in for `run` and `run_stages`."""
        self._asked.append(experiment)
        self.stages = stages


@pytest.fixture
def job(monkeypatch) -> AskedJob:
    asked = AskedJob()
    for name in ("run", "run_stages"):
        monkeypatch.setattr(command_line, name, asked.run)
    return asked
