"""Two processes train as one."""

import json
import os
import socket
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.multiprocessing.spawn import spawn

from cocktail.config import Training
from cocktail.metrics.classification import confusion_counts
from cocktail.train.checkpoint import CheckpointStore, load_checkpoint
from cocktail.train.look import Look, Place
from cocktail.train.loop import train
from cocktail.types import MixtureBatch

SETTINGS = Training(epochs=2, batch_size=8, optimizer="sgd", learning_rate=0.05, lr_drop_epochs=(), log_every=1)


class Linear(nn.Module):
    """Without BatchNorm and dropout, the mean gradient of two halves is that of the whole."""

    def __init__(self):
        super().__init__()
        self.net = nn.Linear(8, 1)

    def forward(self, batch: MixtureBatch):
        predicted = self.net(batch.sources.float().flatten(1) / 32768).squeeze(1)
        return {"total": (predicted - batch.class_ids[:, 0]).square().mean()}

    def confusion(self, batch: MixtureBatch | None):
        if batch is None:
            return {}
        said = self.net(batch.sources.float().flatten(1) / 32768) > torch.tensor([-0.1, 0.0, 0.1])
        truth = nn.functional.one_hot(batch.class_ids[:, 0], 3) > 0
        return {"presence": confusion_counts(said, truth)}


class Halves:
    """Three batches of eight; in each, the mixtures that are named as dropped are not there."""

    batches_per_epoch = 3

    def __init__(self, dropped: frozenset[int] = frozenset()):
        self.dropped = dropped

    def state(self, step):
        return {"batch": step % 3}

    def batches(self, epoch, first, rank, world_size):
        share = 8 // world_size
        for number in range(first, 3):
            generator = torch.Generator().manual_seed(100 * epoch + number)
            sources = torch.randint(-32768, 32767, (8, 2, 4), generator=generator, dtype=torch.int16)
            class_ids = torch.randint(0, 3, (8, 2), generator=generator)
            planned = range(rank * share, (rank + 1) * share)
            mine = [i for i in planned if i not in self.dropped]
            yield MixtureBatch(
                mixture_ids=tuple(str(i) for i in mine),
                sources=sources[mine],
                gains=torch.ones(len(mine), 2),
                class_ids=class_ids[mine],
                present=torch.ones(len(mine), 2, dtype=torch.bool),
                dropped=tuple(f"mixture {i}: damaged" for i in planned if i in self.dropped),
            )


def held_out(count: int) -> tuple[MixtureBatch, ...]:
    return tuple(next(iter(Halves().batches(9, number, 0, 1))) for number in range(count))


def run(rank: int, world_size: int, folder: str, port: int, dropped: frozenset[int], num_looks: int = 0) -> None:
    if world_size > 1:
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        dist.init_process_group("gloo", rank=rank, world_size=world_size)
    torch.manual_seed(11)
    logs: list[dict[str, float]] = []
    looks: list[dict[str, float]] = []
    train(
        Linear(),
        Halves(dropped),
        replace(SETTINGS, max_dropped_share=1.0),
        seed=0,
        place=Place(device=torch.device("cpu"), rank=rank, world_size=world_size),
        checkpoints=CheckpointStore(folder),
        identity={},
        on_log=lambda step, num_steps, metrics: logs.append(metrics),
        look=Look(batches=held_out(num_looks), on_look=lambda step, scores: looks.append(scores)),
    )
    Path(f"{folder}-looks-{rank}").write_text(json.dumps(looks))
    kept = [{name: entry[name] for name in ("loss/total", "dropped_mixtures")} for entry in logs]
    Path(f"{folder}-logs-{rank}").write_text(json.dumps(kept))
    if world_size > 1:
        dist.barrier()  # rank 0 holds the store that the others still speak to
        dist.destroy_process_group()


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


# All of the second worker's half is damaged, or something of each.
@pytest.mark.parametrize("dropped", [frozenset(), frozenset({4, 5, 6, 7}), frozenset({0, 5, 6})])
def test_two_ranks_compute_what_one_does_on_the_whole_batch(tmp_path, dropped):
    spawn(run, args=(2, str(tmp_path / "two"), free_port(), dropped), nprocs=2)
    run(0, 1, str(tmp_path / "one"), 0, dropped)
    states = []
    for name in ("one", "two"):
        newest = CheckpointStore(str(tmp_path / name)).newest()
        assert newest is not None
        states.append(load_checkpoint(newest).state["model"])
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, atol=1e-6, rtol=1e-6)
    one, two, other = (json.loads((tmp_path / name).read_text()) for name in ("one-logs-0", "two-logs-0", "two-logs-1"))
    assert two == other
    assert [entry["loss/total"] for entry in two] == pytest.approx([entry["loss/total"] for entry in one], abs=1e-6)
    counted = [float(len(dropped) * (step + 1)) for step in range(6)]
    assert [entry["dropped_mixtures"] for entry in two] == counted


@pytest.mark.parametrize("num_looks", [1, 3])
def test_two_ranks_see_what_one_sees_when_they_look(tmp_path, num_looks):
    spawn(run, args=(2, str(tmp_path / "two"), free_port(), frozenset(), num_looks), nprocs=2)
    run(0, 1, str(tmp_path / "one"), 0, frozenset(), num_looks)
    one, two, other = (
        json.loads((tmp_path / f"{name}").read_text()) for name in ("one-looks-0", "two-looks-0", "two-looks-1")
    )
    assert two == other
    assert one == two
    assert len(one) == 6  # before the first step, and after 1, 2, 3, 4 and 6
    assert one[0]["look/presence_micro_f1"] > 0
