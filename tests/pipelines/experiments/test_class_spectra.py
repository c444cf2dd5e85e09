"""Which experiments have mean spectra of their classes for a control, and of which clips."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipelines.describe import spectra as measuring
from pipelines.experiments.class_spectra import num_training_clips_to_read, training_spectra
from tests.made.corpora.toy_shards import CLASSES, make_toy_shards
from tests.made.models.small_avgn import MIXING
from tests.made.models.small_avgn import SMALL as SMALL_AVGN
from tests.made.models.small_experiment import SMALL
from tests.made.strangers.bands import StrangerConfig


@pytest.fixture
def here(monkeypatch):
    """Runs the tasks in this process; counts the clips."""
    clips = []

    def map_here(rows, fn, fn_kwargs, num_tasks, advice, *, folder):
        for row in rows.to_pylist():
            result = fn(row, **fn_kwargs)
            clips.extend(result["num_clips"])
            yield result

    monkeypatch.setattr(measuring, "map_on_cluster", map_here)
    return clips


@pytest.mark.parametrize("model", [SMALL.model, StrangerConfig()])
def test_a_model_that_separates_has_those_of_its_training_split_whether_it_is_trained_or_not(tmp_path, here, model):
    manifest = make_toy_shards(tmp_path / "shards")
    experiment = replace(SMALL, model=model, output=str(tmp_path / "out"))
    assert num_training_clips_to_read(experiment, manifest) == 40
    whole = training_spectra(experiment, manifest, lambda: None)
    assert num_training_clips_to_read(experiment, manifest) == 0, "they are there"
    assert whole is not None and whole.num_clips.tolist() == [8] * len(CLASSES)
    part = replace(experiment, training=replace(SMALL.training, split="train[:50%]"))
    half = training_spectra(part, manifest, lambda: None)
    assert half is not None and 0 < half.num_clips.sum() < 40
    assert sum(here) == 40 + half.num_clips.sum()
    kept = sorted(path.name for path in (tmp_path / "out" / "class-spectra").iterdir())
    assert len(kept) == 2
    absent = replace(experiment, training=replace(SMALL.training, split="elsewhere"))
    nothing = training_spectra(absent, manifest, lambda: None)
    assert nothing is not None and not nothing.num_clips.any()


def test_a_model_that_only_localizes_has_none_and_no_clip_is_read(tmp_path, here):
    manifest = make_toy_shards(tmp_path / "shards")
    experiment = replace(SMALL, model=SMALL_AVGN, mixing=MIXING, output=str(tmp_path / "out"))
    assert num_training_clips_to_read(experiment, manifest) == 0
    assert training_spectra(experiment, manifest, lambda: None) is None
    assert here == [] and not (tmp_path / "out").exists()
