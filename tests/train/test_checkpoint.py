"""Checkpoints exist whole or not at all, and only where they belong."""

import json
import pickle
from pathlib import Path

import pytest
import torch

from cocktail.train.checkpoint import CheckpointStore, load_checkpoint, require_identity
from cocktail.types import UsageError

IDENTITY = {"model.depth": 2, "training.lr_drop_epochs": [40, 80], "manifest": "abc"}


@pytest.fixture
def store(tmp_path) -> CheckpointStore:
    return CheckpointStore(str(tmp_path / "checkpoints"))


def save(store: CheckpointStore, step: int, keep: int = 2) -> str:
    return store.save(step, {"model": {"w": torch.full((3,), float(step))}}, IDENTITY, keep)


def test_the_newest_comes_back_as_it_was_and_older_ones_go(store, tmp_path):
    assert store.newest() is None
    for step in (10, 20, 30):
        save(store, step)
    newest = store.newest()
    assert newest is not None
    checkpoint = load_checkpoint(newest)
    assert checkpoint.step == 30
    assert checkpoint.state["model"]["w"].tolist() == [30.0] * 3
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == ["step-00000020", "step-00000030"]


def test_an_uncommitted_checkpoint_does_not_exist(store):
    committed = save(store, 10)
    torn = save(store, 20)
    Path(torn, "meta.json").unlink()
    assert store.newest() == committed
    with pytest.raises(UsageError, match=r"no meta\.json"):
        load_checkpoint(torn)


def test_a_damaged_checkpoint_is_named(store, tmp_path):
    location = save(store, 10)
    path = tmp_path / "checkpoints" / "step-00000010" / "state.pt"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(UsageError, match="step-00000010 is damaged"):
        load_checkpoint(location)


def test_another_schema_is_refused(store, tmp_path):
    location = save(store, 10)
    path = tmp_path / "checkpoints" / "step-00000010" / "meta.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema": "cocktail-checkpoint/99"}))
    with pytest.raises(UsageError, match="cocktail-checkpoint/99"):
        load_checkpoint(location)


def test_every_difference_of_settings_is_named(store):
    location = save(store, 10)
    require_identity(location, {**IDENTITY, "training.lr_drop_epochs": (40, 80)})
    with pytest.raises(UsageError) as refused:
        require_identity(location, {**IDENTITY, "model.depth": 3, "manifest": "def"})
    message = str(refused.value)
    assert "model.depth (was 2, is 3)" in message
    assert "manifest (was abc, is def)" in message
    assert "lr_drop_epochs" not in message


def test_nothing_in_a_checkpoint_is_executed(store, tmp_path):
    class Trap:
        def __reduce__(self):
            return (print, ("executed",))

    location = store.save(10, {"model": Trap()}, IDENTITY, 1)
    with pytest.raises(pickle.UnpicklingError, match=r"[Ww]eights.only"):
        load_checkpoint(location)
