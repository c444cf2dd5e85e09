"""Training that is killed at random moments sees each mixture of the plan once, in order, and learns the same."""

import json
import os
import random
import time
from pathlib import Path

import pytest

from cocktail.checkpoints.store import CheckpointStore, load_checkpoint
from tests.made.corpora.toy_shards import make_toy_shards
from tests.services.killed_training import SETTINGS, train_noting

STEPS = SETTINGS.epochs * 15


def read_notes(folder: Path) -> list[tuple[int, tuple[str, ...]]]:
    # The last line of a killed process may be cut short.
    lines = (folder / "notes").read_text().splitlines()
    whole = [line for line in lines if line.endswith("]]")]
    return [(step, tuple(ids)) for step, ids in map(json.loads, whole)]


def committed(folder: Path) -> int:
    newest = CheckpointStore(f"{folder}/checkpoints").newest()
    return 0 if newest is None else load_checkpoint(newest).step


@pytest.mark.parametrize("num_kills", [3, pytest.param(10, marks=pytest.mark.slow)])
def test_kills_change_neither_the_mixtures_nor_the_weights(tmp_path, forkserver, num_kills):
    shards = make_toy_shards(tmp_path / "shards").folder
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    for folder in (undisturbed, killed):
        folder.mkdir()
    whole = forkserver.Process(target=train_noting, args=(shards, str(undisturbed), 0.0))
    whole.start()
    whole.join(120)
    assert whole.exitcode == 0
    generator = random.Random(0)
    kills, begins = 0, []
    while committed(killed) < STEPS:
        before = len(read_notes(killed)) if (killed / "notes").exists() else 0
        begins.append((before, committed(killed)))
        process = forkserver.Process(target=train_noting, args=(shards, str(killed), 0.02))
        process.start()
        if kills < num_kills:
            deadline = time.monotonic() + 60
            while not (killed / "notes").exists() or len(read_notes(killed)) == before:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            time.sleep(generator.uniform(0.0, 0.25))
            assert process.exitcode is None, "training ended before it was killed: make it longer"
            os.kill(process.pid, 9)
            kills += 1
        process.join(120)
        assert process.exitcode in (0, -9)
    assert kills == num_kills
    expected, seen = read_notes(undisturbed), read_notes(killed)
    assert [step for step, _ in expected] == list(range(STEPS))
    assert len({ids for _, mixtures in expected for ids in mixtures}) == STEPS * SETTINGS.batch_size
    # Each start takes up the step after the newest checkpoint; what counts of a step is what was trained last.
    for (first, step), (last, _) in zip(begins, [*begins[1:], (len(seen), 0)], strict=True):
        assert [number for number, _ in seen[first:last]] == list(range(step, step + last - first))
    assert sorted(dict(seen).items()) == expected
    assert all(mixtures == dict(expected)[step] for step, mixtures in seen)
    newest = [CheckpointStore(f"{folder}/checkpoints").newest() for folder in (undisturbed, killed)]
    states = [load_checkpoint(location).state for location in newest if location is not None]
    assert states[0]["data"] == states[1]["data"]
    assert all(value.equal(states[1]["model"][name]) for name, value in states[0]["model"].items())
