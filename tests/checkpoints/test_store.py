"""Checkpoints exist whole or not at all, and only where they belong."""

import json
import os
import random
import time
from pathlib import Path

import pytest
import torch

from cocktail.checkpoints.store import CheckpointStore, CheckpointWriter, load_checkpoint, require_identity
from cocktail.types import UsageError
from tests.services.checkpoint_saver import save_one_by_one

IDENTITY = {"model.depth": 2, "training.lr_drop_epochs": [40, 80], "manifest": "abc"}


@pytest.fixture
def store(tmp_path) -> CheckpointStore:
    return CheckpointStore(str(tmp_path / "checkpoints"))


def save(store: CheckpointStore, step: int, keep: int = 2) -> str:
    return store.save(step, {"model": {"w": torch.full((3,), float(step))}}, IDENTITY, keep)


def save_under_schema(store: CheckpointStore, schema: str) -> str:
    """A checkpoint that says that it is of this schema."""
    location = save(store, 10)
    path = Path(location, "meta.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema": schema}))
    return location


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


def test_the_best_is_kept_and_selected_for_as_long_as_it_is_the_best(store, tmp_path):
    assert store.selected() is None
    for step, best in ((10, 10), (20, 10), (30, 10)):
        store.save(step, {}, IDENTITY, keep=1, best=best)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["step-00000010", "step-00000030"]
    assert store.selected() == f"{store.folder}/step-00000010"
    assert store.newest() == f"{store.folder}/step-00000030"
    store.save(40, {}, IDENTITY, keep=1, best=40)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000040"]
    assert store.selected() == store.newest() == f"{store.folder}/step-00000040"


def test_without_a_best_the_newest_is_selected(store):
    save(store, 10)
    newest = save(store, 20)
    assert store.selected() == newest


def test_an_uncommitted_checkpoint_does_not_exist(store):
    committed = save(store, 10)
    torn = save(store, 20)
    Path(torn, "meta.json").unlink()
    assert store.newest() == committed
    with pytest.raises(UsageError, match=r"no meta\.json"):
        load_checkpoint(torn)


def test_what_is_half_written_costs_no_checkpoint_and_goes_once_its_step_has_come_again(store, tmp_path):
    torn = save(store, 30)
    Path(torn, "meta.json").unlink()
    committed = save(store, 20, keep=1)
    assert store.newest() == committed
    # Another process may be about to commit it.
    assert Path(torn, "state.pt").exists()
    assert save(store, 30, keep=1) == torn
    save(store, 40, keep=1)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000040"]


def test_a_writer_saves_the_state_as_it_was_and_ends_with_the_last_committed(store):
    weights = torch.ones(3)
    with CheckpointWriter(store, IDENTITY, keep=2) as writer:
        for step in (1, 2, 3):
            writer.save(step, {"model": {"w": weights}})
            weights += 1
    newest = store.newest()
    assert newest is not None
    assert load_checkpoint(newest).state["model"]["w"].tolist() == [3.0] * 3
    assert load_checkpoint(newest).step == 3


def test_what_fails_while_writing_is_raised(store, tmp_path):
    (tmp_path / "checkpoints").write_text("a file where the folder should be")
    with pytest.raises(UsageError, match="checkpoints"), CheckpointWriter(store, IDENTITY, keep=2) as writer:
        writer.save(1, {"model": {}})


@pytest.mark.parametrize("kills", [15, pytest.param(100, marks=pytest.mark.slow)])
def test_after_a_kill_while_writing_a_committed_checkpoint_loads(tmp_path, forkserver, kills):
    store = CheckpointStore(str(tmp_path))
    save_one_by_one(str(tmp_path), saves=2)
    generator = random.Random(kills)
    torn, newest = 0, 2
    for _ in range(kills):
        process = forkserver.Process(target=save_one_by_one, args=(str(tmp_path), None))
        process.start()
        deadline = time.monotonic() + 60
        begun = newest
        while begun == newest:  # it has loaded the newest one and written another
            assert time.monotonic() < deadline
            begun = max(int(path.name[5:]) for path in tmp_path.glob("step-*"))
        time.sleep(generator.uniform(0.0, 0.02))
        os.kill(process.pid, 9)
        process.join()
        found = store.newest()
        assert found is not None
        checkpoint = load_checkpoint(found)
        assert checkpoint.step >= newest
        assert checkpoint.state["model"]["w"].unique().tolist() == [checkpoint.step]
        newest = checkpoint.step
        torn += any(not (path / "meta.json").exists() for path in tmp_path.glob("step-*"))
    assert torn > kills // 10, "kills must meet a checkpoint half written"


def test_a_damaged_checkpoint_is_named(store, tmp_path):
    location = save(store, 10)
    path = tmp_path / "checkpoints" / "step-00000010" / "state.pt"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(UsageError, match="step-00000010 is damaged"):
        load_checkpoint(location)


def test_another_schema_is_refused(store):
    location = save_under_schema(store, "cocktail-checkpoint/99")
    with pytest.raises(UsageError, match=r"cocktail-checkpoint/99.*: open it with the version that wrote it"):
        load_checkpoint(location)


def test_an_earlier_versions_weights_are_read_and_its_training_is_not_gone_on_with(store):
    location = save_under_schema(store, "cocktail-checkpoint/4")
    assert load_checkpoint(location).state["model"]["w"].tolist() == [10.0] * 3
    with pytest.raises(UsageError, match=r"begun by an earlier version.*: choose another --run-name, or finish it"):
        require_identity(location, IDENTITY)


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
    with pytest.raises(UsageError, match=r"step-00000010 is damaged: its state\.pt is no archive of tensors"):
        load_checkpoint(location)
