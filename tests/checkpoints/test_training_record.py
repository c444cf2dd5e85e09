"""What a checkpoint says of its training is what was written, and what an earlier version wrote is read."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from cocktail.checkpoints.store import CheckpointStore
from cocktail.checkpoints.training_record import TrainedOn, read_precision, read_trained_on, with_precision
from cocktail.inference.trained import about, load_trained
from cocktail.types import UsageError
from tests.made.models.small_experiment import SMALL

CLASSES = ("bell", "drum")
SPLITS = (
    TrainedOn(data="s3://earlier/shards", manifest="a" * 64, split="train[5%:]"),
    TrainedOn(data="/data/shards", manifest="b" * 64, split="train"),
)


def checkpoint_of(folder: Path, told: dict[str, Any], identity: dict[str, Any] | None = None) -> str:
    torch.manual_seed(0)
    state = {"model": SMALL.model.build(len(CLASSES)).state_dict()}
    return CheckpointStore(str(folder), about=told).save(1, state, identity or {}, keep=1)


def test_all_that_a_model_was_trained_on_and_what_it_started_from_is_kept_with_it(tmp_path):
    told = about(SMALL, CLASSES, "/data/shards", trained_on=SPLITS, started_from="ImageNet")
    checkpoint = checkpoint_of(tmp_path, with_precision(told, "bfloat16, without TF32", None))
    assert read_trained_on(checkpoint) == SPLITS
    trained = load_trained(checkpoint)
    assert (trained.trained_on, trained.started_from, trained.precision) == (
        SPLITS,
        "ImageNet",
        "bfloat16, without TF32",
    )
    assert trained.in_words == "Trained on mixtures of 2 sources of the split train, from ImageNet."
    single = replace(trained, mixing=replace(trained.mixing, num_sources=1), started_from=None)
    assert single.in_words == "Trained on single sources of the split train."


def test_a_training_that_goes_on_elsewhere_keeps_what_it_was_in_before(tmp_path):
    told = about(SMALL, CLASSES, "/data/shards", trained_on=SPLITS)
    first = checkpoint_of(tmp_path / "a", with_precision(told, "bfloat16, without TF32", None))
    second = checkpoint_of(tmp_path / "b", with_precision(told, "float32, without TF32", first))
    third = checkpoint_of(tmp_path / "c", with_precision(told, "float32, without TF32", second))
    assert read_precision(third) == ("bfloat16, without TF32", "float32, without TF32")
    assert load_trained(third).precision == "bfloat16, without TF32, then float32, without TF32"


def test_a_checkpoint_of_an_earlier_version_says_its_own_split_unless_it_was_started_from_another(tmp_path):
    told = about(SMALL, CLASSES, "/data/shards")
    old = {name: value for name, value in told.items() if name not in ("trained_on", "started_from")}
    checkpoint = checkpoint_of(tmp_path / "a", old, {"manifest": "c" * 64})
    assert read_trained_on(checkpoint) == (TrainedOn(data="/data/shards", manifest="c" * 64, split="train"),)
    trained = load_trained(checkpoint)
    assert (trained.started_from, trained.precision) == (None, None)
    old["settings"] = {**old["settings"], "start_from": "/runs/earlier"}
    assert read_trained_on(checkpoint_of(tmp_path / "b", old, {"manifest": "c" * 64})) is None


@pytest.mark.parametrize("value", ["train", [1], [{"data": "x"}], [{"data": 1, "manifest": "", "split": "train"}]])
def test_what_is_no_record_of_a_training_is_refused_in_one_line(tmp_path, value):
    told = json.loads(json.dumps(about(SMALL, CLASSES, "/data/shards")))
    checkpoint = checkpoint_of(tmp_path, {**told, "trained_on": value})
    with pytest.raises(UsageError) as refused:
        load_trained(checkpoint)
    assert str(tmp_path) in str(refused.value) and "\n" not in str(refused.value)
