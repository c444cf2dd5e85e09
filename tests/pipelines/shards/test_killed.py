"""Sharding that is killed at any moment leaves whole shards or none, and ends with the same bytes."""

import contextlib
import multiprocessing
import os
import random
import shutil
import threading
import time
from pathlib import Path

import psutil
import pytest

from pipelines.datasets.vggsound import index_vggsound
from pipelines.shards.dataset import finish, shard_dataset
from pipelines.shards.plan import ShardSettings, plan_shards
from pipelines.shards.write import write_shard
from tests.made.corpora.miniature_clips import make_corpus
from tests.services.shard_writer import write_some

# Shards of about two clips: many files come into being, so that kills hit all stages of their making.
SETTINGS = ShardSettings(dataset="miniature", shard_mb=0.45, num_frames=2, picture_short_side=32, max_bad_share=1.0)
PROJECT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The corpus's plan, the bytes that it must come to, and how long one process takes for it."""
    folder = tmp_path_factory.mktemp("corpus")
    make_corpus(folder)
    index = index_vggsound(str(folder / "vggsound.csv"), str(folder / "videos"))
    plan = plan_shards(index, SETTINGS)
    shards = tmp_path_factory.mktemp("undisturbed")
    begin = time.perf_counter()
    for row in plan.to_pylist():
        write_shard(row, SETTINGS, str(shards))
    seconds = time.perf_counter() - begin
    finish(plan, SETTINGS, str(shards))
    return index, plan, {path.name: path.read_bytes() for path in shards.iterdir()}, seconds


@pytest.fixture(scope="module")
def forkserver():
    """Processes that start in milliseconds, in no thread of this one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(PROJECT), str(PROJECT / "platform")]))
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["tests.services.shard_writer"])
        first = context.Process(target=time.sleep, args=(0,))
        first.start()
        first.join()
        yield context


def require_nothing_torn(folder: Path, expected: dict[str, bytes]) -> None:
    names = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    for name in names:
        assert (folder / name).read_bytes() == expected[name], name
        if name.endswith(".index.json"):
            assert name.replace(".index.json", ".tar") in names, "a sidecar before its tar"


def kill_while_writing(context, undisturbed, folder: Path, num_kills: int, num_tasks: int, seed: int) -> None:
    """Kill all writers at once, so many times, wherever they are; begin anew whenever the data set is finished."""
    _, plan, expected, seconds = undisturbed
    generator = random.Random(seed)
    rows = plan.to_pylist()
    kills = in_a_file = 0
    while kills < num_kills:
        folder.mkdir(exist_ok=True)
        writers = [
            context.Process(target=write_some, args=(rows[number::num_tasks], SETTINGS, str(folder)))
            for number in range(num_tasks)
        ]
        for writer in writers:
            writer.start()
        time.sleep(generator.uniform(0, seconds / 2))
        kills += any(writer.is_alive() for writer in writers)
        for writer in writers:
            writer.kill()
        for writer in writers:
            writer.join()
        require_nothing_torn(folder, expected)
        in_a_file += any(path.name.startswith(".") for path in folder.iterdir())
        if len(list(folder.glob("*.index.json"))) == len(rows):
            finish(plan, SETTINGS, str(folder))
            assert {path.name: path.read_bytes() for path in folder.iterdir()} == expected
            shutil.rmtree(folder)
    folder.mkdir(exist_ok=True)
    write_some(rows, SETTINGS, str(folder))
    finish(plan, SETTINGS, str(folder))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == expected, "also nothing was left behind"
    assert in_a_file >= num_kills // 5, "too few kills came while a file was being written"


@pytest.mark.parametrize("num_tasks", [1, pytest.param(2, marks=pytest.mark.slow), 4])
def test_10_kills_at_random_moments_leave_nothing_torn(forkserver, undisturbed, tmp_path, num_tasks):
    kill_while_writing(forkserver, undisturbed, tmp_path / "shards", 10, num_tasks, seed=num_tasks)


@pytest.mark.slow
@pytest.mark.parametrize("num_tasks", [1, 2, 4])
def test_200_kills_at_random_moments_leave_nothing_torn(forkserver, undisturbed, tmp_path, num_tasks):
    kill_while_writing(forkserver, undisturbed, tmp_path / "shards", 200, num_tasks, seed=10 + num_tasks)


def kill_ray_tasks(stop: threading.Event, seed: int) -> list[int]:
    """SIGKILL a process that writes a shard for Ray, now and then; the list grows with their ids."""
    killed: list[int] = []
    generator = random.Random(seed)

    def run() -> None:
        while not stop.wait(0.01) and len(killed) < 4:
            with contextlib.suppress(psutil.NoSuchProcess):  # it ended by itself meanwhile
                ours = psutil.Process().children(recursive=True)  # this process's own cluster
                writing = [process for process in ours if "ray::Map(write_shard)" in process.name()]
                if writing:
                    victim = generator.choice(writing)
                    time.sleep(generator.uniform(0, 0.05))
                    victim.kill()
                    killed.append(victim.pid)

    threading.Thread(target=run, daemon=True).start()
    return killed


@pytest.mark.slow
@pytest.mark.parametrize("num_tasks", [1, 2])
def test_ray_writes_again_what_its_killed_workers_were_writing(local_ray, undisturbed, tmp_path, num_tasks):
    index, _, expected, _ = undisturbed
    stop = threading.Event()
    killed = kill_ray_tasks(stop, seed=num_tasks)
    try:
        settings = ShardSettings(**{**SETTINGS.deciding(), "max_bad_share": 1.0, "num_tasks": num_tasks})
        shard_dataset(index, settings, str(tmp_path))
    finally:
        stop.set()
    assert killed, "no worker was caught at work"
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == expected
