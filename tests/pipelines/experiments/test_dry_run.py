"""What is said of a run before it starts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipelines.experiments import dry_run
from pipelines.experiments.dry_run import tell
from pipelines.experiments.planned import PlannedRun
from tests.made.corpora.toy_shards import make_toy_shards
from tests.made.models.small_experiment import SMALL
from tests.made.strangers.bands import StrangerConfig


@pytest.mark.parametrize(("num_clips", "said"), [(7, 1), (0, 0)])
def test_the_pass_for_class_spectra_is_said_if_it_is_to_come(tmp_path, local_ray, monkeypatch, num_clips, said):
    make_toy_shards(tmp_path / "shards")
    monkeypatch.setattr(dry_run, "num_training_clips_to_read", lambda *_: num_clips)
    experiment = replace(
        SMALL, model=StrangerConfig(), data=str(tmp_path / "shards"), output=str(tmp_path / "out"), tracking_uri=None
    )
    lines = tell(PlannedRun.of(experiment)).splitlines()
    assert lines.count("first     the mean spectra of classes: all sound of 7 clips") == said
    assert sum("mean spectra" in line for line in lines) == said
