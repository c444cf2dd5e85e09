"""Test mixtures that hold what a model was trained on are counted, refused unless they are accepted, and told of."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from cocktail.checkpoints.initial_weights import InitialWeights
from cocktail.checkpoints.store import CheckpointStore
from cocktail.checkpoints.training_record import TrainedOn
from cocktail.config.evaluation import Evaluation
from cocktail.inference.trained import about, load_trained
from cocktail.types import UsageError
from pipelines.experiments import planned
from pipelines.experiments.planned import PlannedRun, taught_by
from pipelines.experiments.scoring import Scoring
from pipelines.experiments.trained_on import Overlap, overlap_of
from pipelines.shards.manifest import Manifest
from tests.made.corpora.toy_shards import CLASSES, RATE, make_toy_shards, toy_clip, toy_row, write_shards
from tests.made.models.small_experiment import SMALL

NOTHING_NEW = (
    "3 of the 4 test mixtures hold recordings of what was trained on (--evaluation.allow-trained-on), as r0: these "
    "scores are not of what is new to the model."
)


def shards(folder: Path, clips: dict[str, tuple[str, str]]) -> Manifest:
    """Clips with their recordings and splits; number n is of class n."""
    samples: dict[str, list[Any]] = {}
    for number, (clip_id, (recording, split)) in enumerate(clips.items()):
        audio = np.random.default_rng(number).integers(-9000, 9000, 5 * RATE).astype("<i2")
        row = {**toy_row(number, split, len(CLASSES)), "clip_id": clip_id, "recording": recording}
        samples.setdefault(f"{split}-00000", []).append((row, toy_clip(audio)))
    return write_shards(folder, samples, CLASSES)


@pytest.fixture
def trained(tmp_path) -> Manifest:
    return shards(
        tmp_path / "trained",
        {"a": ("r0", "train"), "b": ("r1", "train"), "c": ("r2", "val"), "d": ("r0", "test"), "e": ("r3", "test")},
    )


@pytest.fixture
def other(tmp_path) -> Manifest:
    """Another data set: a clip of a recording that was trained on, one of the name of a clip that was, and two more."""
    return shards(
        tmp_path / "other",
        {"k": ("r0", "test"), "b": ("s1", "test"), "m": ("s2", "test"), "n": ("r2", "test")},
    )


def on(manifest: Manifest, split: str = "train") -> tuple[TrainedOn, ...]:
    return (TrainedOn(data=manifest.folder, manifest=manifest.root_hash, split=split),)


def mixtures(*clips: list[str]) -> pa.Table:
    return pa.table({"clip_id": pa.array(clips, pa.list_(pa.string()))})


def test_mixtures_are_counted_that_hold_a_recording_or_a_clip_that_was_trained_on(trained, other):
    tests = mixtures(["k", "m"], ["m", "n"], ["n", "b"], ["b", "k"])
    overlap = overlap_of(tests, other, on(trained))
    assert (overlap.num_mixtures, overlap.num_held, overlap.example) == (4, 3, "r0")
    assert overlap.notes == (NOTHING_NEW,)
    assert overlap.in_words == "3"
    assert overlap_of(tests, other, on(trained, "val")).num_held == 2
    assert overlap_of(tests, other, (*on(trained), *on(trained, "val"))).num_held == 4
    assert overlap_of(tests, other, ()) == Overlap(num_mixtures=4, num_held=0)


def test_splits_of_one_data_set_that_share_a_recording_overlap(trained):
    overlap = overlap_of(mixtures(["d", "e"], ["e"]), trained, on(trained))
    assert (overlap.num_held, overlap.example) == (1, "r0")
    assert overlap_of(mixtures(["c"]), trained, on(trained)).num_held == 0


def test_parts_of_a_split_are_of_whole_recordings_and_do_not_overlap(tmp_path):
    manifest = make_toy_shards(tmp_path)
    train = [[row["clip_id"]] for row in manifest.table.to_pylist() if row["split"] == "train"]
    first, rest = (
        overlap_of(mixtures(*train), manifest, on(manifest, part)) for part in ("train[:20%]", "train[20%:]")
    )
    assert first.num_held + rest.num_held == 40 and min(first.num_held, rest.num_held) > 0


def test_shards_that_are_gone_or_others_now_are_said_and_not_raised(trained, other):
    tests = mixtures(["k"], ["m"])
    record = on(trained)
    changed = (replace(record[0], manifest="0" * 64),)
    assert overlap_of(tests, other, changed).unchecked == (
        f"{trained.folder}, which it was trained on, holds other shards now",
    )
    assert overlap_of(tests, other, None).in_words == "0 or more, not all could be checked"
    shutil.rmtree(trained.folder)
    overlap = overlap_of(tests, other, record)
    assert overlap.notes == (
        "Whether test mixtures hold recordings of what was trained on could not be checked: "
        f"{trained.folder}, which it was trained on, cannot be read.",
    )
    assert overlap_of(tests, other, record, [trained]).num_held == 1  # their manifest is at hand


def test_a_test_of_what_was_trained_on_is_refused_unless_it_is_allowed():
    overlap = Overlap(num_mixtures=40, num_held=12, example="r0")
    overlap.require_accepted(allowed=True)
    Overlap(num_mixtures=40, num_held=0).require_accepted(allowed=False)
    with pytest.raises(UsageError) as refused:
        overlap.require_accepted(allowed=False)
    assert str(refused.value) == (
        "12 of the 40 test mixtures hold recordings of what was trained on, as r0: test another split "
        "(--evaluation.split) or other shards (--evaluation.data), or accept it with --evaluation.allow-trained-on, "
        "and the tables say it"
    )


def test_a_run_that_would_test_its_training_split_is_refused_before_it_starts(tmp_path, monkeypatch):
    def connect(*_: Any) -> None:
        raise AssertionError("it was not refused")

    monkeypatch.setattr(planned, "connect", connect)
    data = make_toy_shards(tmp_path / "toy").folder
    experiment = replace(SMALL, data=data, output=str(tmp_path), evaluation=Evaluation(split="train", num_mixtures=3))
    with pytest.raises(UsageError, match=r"^3 of the 3 test mixtures hold recordings of what was trained on, as clip0"):
        PlannedRun.of(experiment)
    for allowed in (
        replace(experiment, evaluation=replace(experiment.evaluation, allow_trained_on=True)),
        replace(experiment, evaluation=replace(experiment.evaluation, split="test")),
    ):
        with pytest.raises(AssertionError, match="it was not refused"):
            PlannedRun.of(allowed)


def test_what_an_earlier_run_was_trained_on_counts_for_a_run_that_starts_from_it(trained, other, tmp_path):
    told = about(SMALL, CLASSES, trained.folder, trained_on=on(trained))
    checkpoint = CheckpointStore(str(tmp_path / "checkpoints"), about=told).save(1, {}, {}, keep=1)
    initial = InitialWeights(description="of an earlier run", checkpoint=checkpoint)
    tests = mixtures(["k"])
    alone = taught_by(SMALL, other, InitialWeights.random())
    assert alone == on(other) and overlap_of(tests, other, alone).num_held == 0
    after = taught_by(SMALL, other, initial)
    assert after == (*on(trained), *on(other))
    assert overlap_of(tests, other, after, [trained]).num_held == 1
    unsaid = about(replace(SMALL, start_from="/runs/a"), CLASSES, trained.folder)
    checkpoint = CheckpointStore(str(tmp_path / "unsaid"), about=unsaid).save(1, {}, {}, keep=1)
    assert taught_by(SMALL, other, replace(initial, checkpoint=checkpoint)) is None


def test_a_checkpoint_is_not_scored_on_what_it_was_trained_on_unless_that_is_allowed_and_then_it_says_so(tmp_path):
    manifest = make_toy_shards(tmp_path / "toy")
    told = about(SMALL, CLASSES, manifest.folder, trained_on=on(manifest), started_from="random weights")
    store = CheckpointStore(str(tmp_path / "checkpoints"), about=told)
    checkpoint = store.save(1, {"model": SMALL.model.build(len(CLASSES)).state_dict()}, {}, keep=1)
    model = load_trained(checkpoint)
    evaluation = Evaluation(split="train", num_mixtures=5)
    asked = (checkpoint, model, manifest, SMALL.mixing)
    with pytest.raises(UsageError, match="5 of the 5 test mixtures hold recordings of what was trained on"):
        Scoring.of(*asked, evaluation, SMALL.resources)
    test = Scoring.of(*asked, replace(evaluation, allow_trained_on=True), SMALL.resources)
    assert test.notes[0] == "Trained on mixtures of 2 sources of the split train, from random weights."
    assert test.notes[1].startswith("5 of the 5 test mixtures hold recordings of what was trained on")
    assert test.tags == {
        "test_mixtures_trained_on": "5",
        "precision.training": "its checkpoint does not say",
        "precision.scoring": "float32, without TF32",
    }
    new = Scoring.of(*asked, replace(evaluation, split="test"), SMALL.resources)
    assert (len(new.notes), new.tags["test_mixtures_trained_on"]) == (1, "0")
