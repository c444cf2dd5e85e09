"""Several training processes: one is killed, their number changes, a node is lost. Real Ray, real kills; all slow."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import pytest
from ray.train.v2.api.exceptions import TrainingFailedError

from cocktail.checkpoints.store import load_checkpoint
from cocktail.config.experiment import Experiment
from cocktail.config.resources import Resources
from cocktail.storage import StorageError
from cocktail.types import UsageError
from tests.made.corpora.toy_shards import make_toy_shards
from tests.services.noted_training import SYNCED, losses, read_notes, train_noting

pytestmark = pytest.mark.slow
PROJECT = Path(__file__).parents[2]
STEPS = 20
TWO = Resources(gpu="no", num_workers=2, executor="inline")


@pytest.fixture(scope="module")
def experiment(tmp_path_factory) -> Experiment:
    shards = tmp_path_factory.mktemp("data") / "shards"
    make_toy_shards(shards)
    return replace(SYNCED, data=str(shards), resources=TWO)


@pytest.fixture(scope="module")
def by_one(experiment, tmp_path_factory, local_ray) -> Path:
    folder = tmp_path_factory.mktemp("one")
    train_noting(replace(experiment, resources=replace(TWO, num_workers=1)), folder)
    return folder


def assert_same_curve(folder: Path, other: Path) -> None:
    ours, theirs = losses(folder), losses(other)
    assert [step for step, _ in ours] == list(range(1, STEPS + 1)), "a step is missing or logged twice"
    assert [value for _, value in ours] == pytest.approx([value for _, value in theirs], abs=1e-5)


def wait_for(folder: Path, steps: int) -> list[dict]:
    """The notes, once a worker has done so many steps."""
    deadline = time.monotonic() + 180
    while True:
        notes = read_notes(folder / "notes")
        if len([note for note in notes if note["rank"] == 1]) >= steps:
            return notes
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_killed_second_worker_costs_seconds_and_changes_no_bit(experiment, tmp_path, local_ray, capsys):
    whole = train_noting(experiment, tmp_path / "whole")
    cut = tmp_path / "cut"
    killed: list[float] = []

    def kill_second() -> None:
        # A checkpoint is written every four steps: the kill comes between two.
        victim = next(note["pid"] for note in reversed(wait_for(cut, 6)) if note["rank"] == 1)
        killed.append(time.time())
        os.kill(victim, signal.SIGKILL)

    killer = threading.Thread(target=kill_second)
    killer.start()
    last = train_noting(experiment, cut, pause=0.1)
    killer.join()
    ours, theirs = load_checkpoint(last).state, load_checkpoint(whole).state
    assert all(value.equal(theirs["model"][name]) for name, value in ours["model"].items())
    assert [note["gradients"] for note in read_notes(cut / "notes") if note["begun"] > killed[0]]
    recovered = min(note["begun"] for note in read_notes(cut / "notes") if note["begun"] > killed[0] + 1)
    with capsys.disabled():
        print(f"\nfrom the kill to the next step: {recovered - killed[0]:.1f} s")
    assert recovered - killed[0] < 30
    assert_same_curve(cut, tmp_path / "whole")


def test_one_worker_goes_on_where_two_stopped_on_the_same_curve(experiment, by_one, tmp_path, local_ray):
    with pytest.raises(TrainingFailedError):
        train_noting(replace(experiment, resources=replace(TWO, max_failures=0)), tmp_path, stops_at=10)
    train_noting(replace(experiment, resources=replace(TWO, num_workers=1)), tmp_path)
    assert {note["world_size"] for note in read_notes(tmp_path / "notes")} == {1, 2}
    assert_same_curve(tmp_path, by_one)


def test_what_no_restart_mends_is_raised_without_training_again(experiment, tmp_path, local_ray):
    with pytest.raises(UsageError, match=r"^as it was to$"):
        train_noting(experiment, tmp_path, stops_at=10, stops_with=UsageError)
    assert len({note["pid"] for note in read_notes(tmp_path / "notes")}) == 2
    assert not list(tmp_path.glob("ray/*.failed"))


def test_an_outage_of_the_store_starts_training_again(experiment, tmp_path, local_ray):
    with pytest.raises(TrainingFailedError, match="as it was to"):
        train_noting(
            replace(experiment, resources=replace(TWO, max_failures=1)), tmp_path, stops_at=10, stops_with=StorageError
        )
    assert len({note["pid"] for note in read_notes(tmp_path / "notes")}) == 4


@dataclass
class RayNode:
    """A node of a cluster of its own, started and stopped by process."""

    processes: list[psutil.Process]

    @classmethod
    def start(cls, options: list[str], folder: Path) -> RayNode:
        before = {process.pid for process in psutil.process_iter()}
        command = [str(Path(sys.executable).parent / "ray"), "start", "--node-ip-address=127.0.0.1", "--num-cpus=1"]
        # Names of sockets have at most 107 characters.
        command += ["--disable-usage-stats", f"--temp-dir={folder}", *options]
        python_path = f"{PROJECT}{os.pathsep}{PROJECT / 'platform'}"
        subprocess.run(command, check=True, env=os.environ | {"PYTHONPATH": python_path}, stdout=subprocess.DEVNULL)
        return cls([p for p in psutil.process_iter() if p.pid not in before and str(folder) in command_of(p)])

    def kill(self) -> None:
        for process in self.processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                for child in [*process.children(recursive=True), process]:
                    with contextlib.suppress(psutil.NoSuchProcess):
                        child.kill()
        self.processes.clear()


def command_of(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
        return " ".join(process.cmdline())
    return ""


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture
def two_nodes(tmp_path_factory) -> Iterator[tuple[str, list[RayNode]]]:
    """The address of a cluster of two nodes of a CPU each, on this machine."""
    port, nodes = free_port(), []
    folders = [Path(f"/tmp/cocktail-{port}-{number}") for number in range(2)]
    try:
        nodes.append(RayNode.start(["--head", f"--port={port}", f"--dashboard-port={free_port()}"], folders[0]))
        nodes.append(RayNode.start([f"--address=127.0.0.1:{port}"], folders[1]))
        yield f"127.0.0.1:{port}", nodes
    finally:
        for node in reversed(nodes):
            node.kill()


@pytest.mark.parametrize("lost", [False, True])
def test_two_nodes_train_as_one_and_one_goes_on_when_the_other_is_lost(experiment, by_one, tmp_path, two_nodes, lost):
    address, nodes = two_nodes
    python_path = f"{PROJECT}{os.pathsep}{PROJECT / 'platform'}"
    job = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "tests.services.noted_training",
            experiment.data,
            str(tmp_path),
            "1" if lost else "2",
        ],
        env=os.environ | {"RAY_ADDRESS": address, "PYTHONPATH": python_path},
        cwd=PROJECT,
    )
    try:
        if lost:
            wait_for(tmp_path, 6)
            nodes[1].kill()
        assert job.wait(timeout=240) == 0
    finally:
        job.kill()
        job.wait()
    notes = read_notes(tmp_path / "notes")
    together = [note for note in notes if note["world_size"] == 2]
    assert len({note["node"] for note in together}) == 2, "each worker has a node of its own"
    by_step = {rank: {n["step"]: n["gradients"] for n in together if n["rank"] == rank} for rank in (0, 1)}
    shared = by_step[0].keys() & by_step[1].keys()
    assert len(shared) >= (5 if lost else STEPS)
    assert all(by_step[0][step] == by_step[1][step] for step in shared), "gradients are the same on both nodes"
    assert len({*by_step[0].values()}) == len(by_step[0]), "and others at each step"
    if lost:
        alone = [note for note in notes if note["world_size"] == 1]
        assert alone[-1]["step"] == STEPS - 1
        waited = alone[0]["begun"] - together[-1]["begun"]
        print(f"{waited:.1f} s until one went on")
        assert waited < 60, "Ray counts what a dead node had for seconds, and is not to wait a minute for it"
    assert_same_curve(tmp_path, by_one)
