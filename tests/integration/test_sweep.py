"""Sweeps on a real cluster, by real drivers, which are killed; real MLflow."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from cocktail.checkpoints.store import CheckpointStore, load_checkpoint
from cocktail.config.experiment import Experiment
from cocktail.tracking.find import find_run
from pipelines.experiments.run import run
from pipelines.papers.sgn import SGN
from pipelines.sweeps.report import recorded_paper
from tests.made.corpora.toy_shards import make_toy_shards
from tests.services.small_sweep import base

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
PROJECT = Path(__file__).parents[2]
PATIENCE = 600.0


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> str:
    return make_toy_shards(tmp_path_factory.mktemp("data") / "shards").folder


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of a cluster that outlives the drivers."""
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # its sockets have paths of a hundred characters at most
    port = free_port()
    command = [str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", "--num-cpus=2"]
    command += ["--node-ip-address=127.0.0.1", f"--port={port}", f"--temp-dir={folder}", "--include-dashboard=false"]
    command += [f"--ray-client-server-port={free_port()}", f"--dashboard-port={free_port()}", "--disable-usage-stats"]
    started = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert started.stdout is not None
    try:
        for line in started.stdout:
            if "Ray runtime started" in line:
                break
        else:
            pytest.fail("ray start ended")
        yield f"127.0.0.1:{port}"
    finally:
        started.send_signal(signal.SIGTERM)
        started.wait(60)
        started.stdout.close()
        shutil.rmtree(folder, ignore_errors=True)


def start(cluster: str, shards: str, output: Path, *options: str) -> subprocess.Popen:
    path = os.pathsep.join([str(PROJECT), str(PROJECT / "platform")])
    return subprocess.Popen(
        [sys.executable, str(PROJECT / "tests/services/small_sweep.py"), shards, str(output), *options],
        env=os.environ | {"PYTHONPATH": path, "RAY_ADDRESS": cluster},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(driver: subprocess.Popen, status: int) -> str:
    shown, _ = driver.communicate(timeout=PATIENCE)
    assert driver.returncode == status, shown
    return shown


def wait_for(driver: subprocess.Popen, output: Path, pattern: str) -> Path:
    """The first file of that name among the runs."""
    deadline = time.monotonic() + PATIENCE
    while not (found := sorted(output.glob(pattern))):
        assert driver.poll() is None, driver.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found[0]


def recorded(output: Path) -> tuple[Run, dict[str, Run]]:
    """The sweep's MLflow run, and its trials' by label. Each label is there once, and there is nothing else."""
    client = MlflowClient(f"sqlite:///{output / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("small")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    (parent,) = [found for found in runs if "sweep.grid" in found.data.tags]
    children = {found.data.tags["trial.label"]: found for found in runs if "trial.label" in found.data.tags}
    assert len(children) == len(runs) - 1
    assert {found.data.tags["mlflow.parentRunId"] for found in children.values()} == {parent.info.run_id}
    return parent, children


def weights(folder: Path) -> dict:
    newest = CheckpointStore(str(folder / "checkpoints")).newest()
    assert newest is not None
    checkpoint = load_checkpoint(newest)
    assert checkpoint.step == 60
    return checkpoint.state["model"]


def test_a_killed_sweep_goes_on_and_each_trial_is_what_it_would_have_been_alone(cluster, shards, tmp_path, local_ray):
    output = tmp_path / "sweep"
    options = ("--over", "seed=0,1,2", "--max-concurrent", "1", "--sweep-name", "ours")
    driver = start(cluster, shards, output, *options)
    first = wait_for(driver, output, "runs/ours-seed-0/finished.json")
    wait_for(driver, output, "runs/ours-seed-1/checkpoints/step-*/meta.json")
    driver.kill()
    driver.communicate()
    assert not (output / "runs" / "ours-seed-1" / "finished.json").exists()
    assert not (output / "runs" / "ours-seed-2").exists()
    before = {path: path.stat().st_mtime_ns for path in first.parent.rglob("*") if path.is_file()}
    ended = recorded(output)[1]["seed 0"].info.end_time

    shown = finish(start(cluster, shards, output, *options), 0)
    assert "sweep ours: 3 trials, 2 to run, 1 at a time" in shown
    parent, children = recorded(output)
    assert parent.info.status == "FINISHED"
    assert json.loads(parent.data.tags["sweep.grid"]) == [["seed"]]
    assert sorted(children) == ["seed 0", "seed 1", "seed 2"]
    client = MlflowClient(f"sqlite:///{output / 'mlflow.db'}")
    for seed, (label, child) in enumerate(sorted(children.items())):
        assert (child.info.status, child.data.tags["trial.status"]) == ("FINISHED", "finished")
        assert json.loads(child.data.tags["trial.overrides"]) == {"seed": seed}
        points = client.get_metric_history(child.info.run_id, "loss/total")
        assert sorted(point.step for point in points) == list(range(2, 61, 2)), f"{label}: a step is lost or repeated"
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert children["seed 0"].info.end_time == ended
    table = (output / "sweeps" / "ours" / "sweep.md").read_text()
    assert recorded_paper(find_run(f"sqlite:///{output / 'mlflow.db'}", "ours")) == SGN
    assert [line.split("|")[1].strip() for line in table.splitlines() if "finished" in line] == sorted(children)

    alone: Experiment = base(shards, str(tmp_path / "alone"))
    for seed in (1, 2):
        name = f"ours-seed-{seed}"
        run(replace(alone, seed=seed, run_name=name))
        swept, single = (weights(tmp_path / where / "runs" / name) for where in ("sweep", "alone"))
        assert [key for key, value in single.items() if not value.equal(swept[key])] == []

    again = finish(start(cluster, shards, output, *options), 0)
    assert "3 trials, 0 to run" in again
    assert len(recorded(output)[1]) == 3


def test_asha_stops_what_does_not_learn_and_says_so(cluster, shards, tmp_path):
    options = ("--over", "training.learning-rate=1e-2,1e-9", "--max-concurrent", "1", "--sweep-name", "ours")
    options += ("--asha", "--asha-grace-steps", "10", "--asha-reduction-factor", "2")
    shown = finish(start(cluster, shards, tmp_path, *options), 0)
    assert "ASHA compares loss/total after 10 steps for the first time" in shown
    parent, children = recorded(tmp_path)
    good, bad = children["learning_rate 1e-2"], children["learning_rate 1e-9"]
    assert [found.info.status for found in (parent, good, bad)] == ["FINISHED", "FINISHED", "KILLED"]
    assert good.data.tags["trial.status"] == "finished"
    assert bad.data.tags["trial.status"] == "stopped early at step 10"
    assert not (tmp_path / "runs" / "ours-learning_rate-1e-9" / "finished.json").exists()
    assert "stopped early at step 10" in (tmp_path / "sweeps" / "ours" / "sweep.md").read_text()
    assert "2 trials, 0 to run" in finish(start(cluster, shards, tmp_path, *options), 0)


def test_a_failed_trial_stops_no_other_and_a_stopped_sweep_goes_on(cluster, shards, tmp_path):
    options = ("--over", "training.learning-rate=1e30,1e-3", "--max-concurrent", "1", "--sweep-name", "ours")
    driver = start(cluster, shards, tmp_path, *options)
    wait_for(driver, tmp_path, "runs/ours-learning_rate-1e-3/checkpoints/step-*/meta.json")
    driver.terminate()
    shown = finish(driver, 130)
    assert shown.endswith("stopped: the same command goes on with what is left\n")
    parent, children = recorded(tmp_path)
    bad, good = children["learning_rate 1e30"], children["learning_rate 1e-3"]
    assert [found.info.status for found in (parent, bad, good)] == ["KILLED", "FAILED", "KILLED"]
    assert bad.data.tags["trial.status"].startswith("failed: NonFiniteLossError: the loss is not finite at step")

    shown = finish(start(cluster, shards, tmp_path, *options), 1)
    assert "error: 1 of 2 trials failed: learning_rate 1e30 (NonFiniteLossError: the loss is not finite" in shown
    parent, children = recorded(tmp_path)
    statuses = {label: found.info.status for label, found in children.items()}
    assert parent.info.status == "FAILED"
    assert statuses == {"learning_rate 1e30": "FAILED", "learning_rate 1e-3": "FINISHED"}
