"""The whole job on toy shards: real Ray, real MLflow, real processes killed."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest
from mlflow.tracking import MlflowClient

from cocktail.audio.class_spectra import CLASS_MEAN_BINARY, CLASS_MEAN_WIENER
from cocktail.checkpoints.store import CheckpointStore, load_checkpoint
from cocktail.config.experiment import Experiment
from cocktail.config.resources import Resources
from cocktail.inference.trained import load_trained
from cocktail.text.printable import as_metric_name
from cocktail.types import UsageError
from jobs.evaluate import main as evaluate_job
from pipelines.experiments.run import run
from tests.made.corpora.toy_shards import make_toy_shards
from tests.made.models.small_experiment import SMALL

PROJECT = Path(__file__).parents[2]
LEAST = replace(SMALL.evaluation, num_mixtures=2, num_examples=0, num_looks=0)
"""Where the test is of something else; what a run is tested on is no part of what it is."""
INLINE = Resources(gpu="no", executor="inline")


@pytest.fixture(scope="module")
def experiment(tmp_path_factory) -> Experiment:
    shards = tmp_path_factory.mktemp("data") / "shards"
    make_toy_shards(shards)
    return replace(SMALL, data=str(shards), tracking_uri=None)


@pytest.fixture(scope="module")
def undisturbed(experiment, tmp_path_factory, local_ray) -> Path:
    """The output of one run from start to end."""
    output = tmp_path_factory.mktemp("undisturbed")
    run(replace(experiment, output=str(output)))
    return output


def run_folders(output: Path) -> list[Path]:
    return sorted((output / "runs").iterdir())


def last_checkpoint(output: Path):
    newest = CheckpointStore(str(run_folders(output)[-1] / "checkpoints")).newest()
    assert newest is not None
    return load_checkpoint(newest)


def assert_same_weights(output: Path, other: Path) -> None:
    ours, theirs = last_checkpoint(output), last_checkpoint(other)
    assert ours.step == theirs.step
    differing = [name for name, value in ours.state["model"].items() if not value.equal(theirs.state["model"][name])]
    assert differing == []


def client(output: Path) -> MlflowClient:
    return MlflowClient(f"sqlite:///{output / 'mlflow.db'}")


def mlflow_runs(output: Path) -> list:
    found = client(output).get_experiment_by_name("small")
    assert found is not None
    return client(output).search_runs([found.experiment_id])


def test_one_run_leaves_scores_metrics_figures_and_sounds(undisturbed):
    (found,) = mlflow_runs(undisturbed)
    assert found.info.status == "FINISHED"
    assert found.data.params["model.depth"] == "1"
    assert found.data.params["mixing.num_sources"] == "2"
    assert len(found.data.tags["test_list_hash"]) == 64
    metrics = found.data.metrics
    assert {"loss/total", "learning_rate", "mixtures_per_second", "data_wait_share"} <= metrics.keys()
    assert {"test/small/sdr", "test/mixture/sdr", "test/ideal_binary_mask/si_sdri"} <= metrics.keys()
    assert metrics["test/mixture/sdr"] < metrics["test/ideal_binary_mask/sdr"]
    controls = [as_metric_name(name) for name in (CLASS_MEAN_BINARY, CLASS_MEAN_WIENER)]
    assert [metrics[f"test/{control}/num_mixtures"] for control in controls] == [6, 6]
    steps = [point.step for point in client(undisturbed).get_metric_history(found.info.run_id, "loss/total")]
    assert steps == list(range(2, 21, 2))

    artifacts = Path(found.info.artifact_uri)
    assert json.loads((artifacts / "environment.json").read_text())["nodes"] == 1
    (version,) = client(undisturbed).search_model_versions("name = 'small'")
    assert (version.run_id, version.tags["sdr"]) == (found.info.run_id, f"{metrics['test/small/sdr']:.3f}")
    results = pq.read_table(artifacts / "results.parquet")
    assert len(results) == 6 * 11 * 2
    assert len(set(results["mixture_id"].to_pylist())) == 6
    test_list = pq.read_table(artifacts / "test_list.parquet")
    assert set(test_list["mixture_id"].to_pylist()) == set(results["mixture_id"].to_pylist())
    recordings = {name for names in test_list["recording"].to_pylist() for name in names}
    assert recordings == set(results["recording"].to_pylist())
    assert metrics["test/small/num_recordings"] == len(recordings) > 2
    assert metrics["test/small/sdr_low"] < metrics["test/small/sdr"] < metrics["test/small/sdr_high"]
    table = (artifacts / "table.md").read_text()
    spectra = load_trained(last_checkpoint(undisturbed).location).class_spectra
    assert spectra is not None and spectra.num_clips.tolist() == [8] * 5
    assert len(list((undisturbed / "class-spectra").iterdir())) == 1
    assert "left out" not in table
    assert all(system in table for system in ("small, predicted classes", "mixture", "ideal ratio mask", "micro"))
    looks = client(undisturbed).get_metric_history(found.info.run_id, "look/presence_macro_f1")
    assert sorted(point.step for point in looks) == [0, 1, 2, 4, 5, 8, 10, 15, 16, 20]
    tokens = client(undisturbed).get_metric_history(found.info.run_id, "look/token_macro_f1")
    assert sorted(point.step for point in tokens) == list(range(21))
    assert (metrics["test/small/num_mixtures"], metrics["test/small/num_excluded"]) == (6, 0)
    drawn = {path.name for path in artifacts.glob("*.png")}
    assert drawn == {"by_class_pair.png", "learning.png", "source_vectors.png"}
    assert pq.read_table(artifacts / "by_class.parquet")["class"].to_pylist()
    (example,) = (artifacts / "examples").glob("*/")
    assert len(list(example.glob("*.wav"))) == 5
    assert {path.name for path in example.parent.glob("*.png")} == {f"{example.name}.png", f"{example.name}-masks.png"}


def test_a_model_trained_on_two_sources_is_scored_on_three_without_training(undisturbed, experiment, local_ray, capfd):
    checkpoint = last_checkpoint(undisturbed).location
    options = ["--mixing.num-sources", "3", "--evaluation.num-mixtures", "4", "--evaluation.num-examples", "0"]
    options += ["--output", str(undisturbed)]
    evaluate_job([checkpoint, *options])
    shown = capfd.readouterr().out
    (found,) = [run for run in mlflow_runs(undisturbed) if "-step-20-on-" in run.info.run_name]
    assert found.info.status == "FINISHED"
    assert found.data.tags["checkpoint"] == checkpoint
    assert found.data.params["mixing.num_sources"] == "3"
    results = pq.read_table(Path(found.info.artifact_uri) / "results.parquet")
    assert set(results["num_sources"].to_pylist()) == {3}
    assert len(results) == 4 * 11 * 3
    assert {"small", "small, predicted classes"} <= set(results["system"].to_pylist())
    assert "| small, predicted classes" in shown


@pytest.mark.slow
def test_reference_metrics_score_a_checkpoint_as_ours_do(undisturbed, local_ray):
    checkpoint = last_checkpoint(undisturbed).location
    tables = []
    for metrics in ("batched", "reference"):
        options = ["--metrics", metrics, "--evaluation.num-mixtures", "5", "--output", str(undisturbed)]
        evaluate_job([checkpoint, *options])
        found = next(run for run in mlflow_runs(undisturbed) if run.data.params.get("evaluation.metrics") == metrics)
        tables.append(pq.read_table(Path(found.info.artifact_uri) / "results.parquet"))
    for score in ("sdr", "sir", "sar"):
        np.testing.assert_allclose(*(table[score].to_numpy() for table in tables), atol=1e-3)


def train_workers() -> list[psutil.Process]:
    """Of this process's cluster; other runs on this machine are not ours to kill."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.cmdline()[:1] and process.cmdline()[0].startswith("ray::RayTrainWorker"):
                found.append(process)
    return found


@pytest.mark.slow
def test_a_killed_worker_is_replaced_and_the_weights_are_the_same(undisturbed, experiment, tmp_path):
    killed: list[int] = []

    def kill_after_the_first_checkpoint() -> None:
        deadline = time.monotonic() + 120
        while not killed and time.monotonic() < deadline:
            if list(tmp_path.glob("runs/*/checkpoints/step-*/meta.json")):
                for process in train_workers():
                    process.kill()
                    killed.append(process.pid)
            time.sleep(0.01)

    killer = threading.Thread(target=kill_after_the_first_checkpoint)
    killer.start()
    run(replace(experiment, output=str(tmp_path), evaluation=LEAST))
    killer.join()
    assert len(killed) == 1
    assert_same_weights(tmp_path, undisturbed)
    (found,) = mlflow_runs(tmp_path)
    points = client(tmp_path).get_metric_history(found.info.run_id, "loss/total")
    assert [point.step for point in points] == list(range(2, 21, 2)), "a step is missing or logged twice"


@pytest.mark.slow
def test_a_killed_job_goes_on_when_started_again(undisturbed, experiment, tmp_path, capfd):
    script = (
        "from dataclasses import replace\n"
        "from pipelines.experiments.run import run\n"
        "from tests.made.models.small_experiment import SMALL\n"
        f"run(replace(SMALL, data={experiment.data!r}, output={str(tmp_path)!r}, tracking_uri=None))\n"
    )
    job = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=PROJECT,
        env=os.environ | {"PYTHONPATH": f"{PROJECT}{os.pathsep}{PROJECT / 'platform'}"},
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 120
        while not list(tmp_path.glob("runs/*/checkpoints/step-*/meta.json")):
            assert job.poll() is None, "the job ended before its first checkpoint"
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        os.killpg(job.pid, signal.SIGKILL)
        job.wait()
    assert not (run_folders(tmp_path)[0] / "finished.json").exists()
    assert "starting from random weights" in capfd.readouterr().out  # what the killed job said
    run(replace(experiment, output=str(tmp_path), evaluation=LEAST))
    said = capfd.readouterr().out
    assert re.search(r"going on from step \d+, /", said)
    assert "starting from" not in said
    assert len(run_folders(tmp_path)) == 1
    assert len(mlflow_runs(tmp_path)) == 1
    assert_same_weights(tmp_path, undisturbed)


@pytest.mark.slow
def test_a_finished_run_is_followed_by_a_new_one_and_the_inline_executor_computes_the_same(undisturbed, experiment):
    before = last_checkpoint(undisturbed)
    run(replace(experiment, output=str(undisturbed), evaluation=LEAST, resources=INLINE))
    assert [folder.name[-2:] for folder in run_folders(undisturbed)] == ["-1", "-2"]
    after = last_checkpoint(undisturbed)
    assert after.location != before.location
    assert all(value.equal(before.state["model"][name]) for name, value in after.state["model"].items())
    trained = [found for found in mlflow_runs(undisturbed) if "-step-20-on-" not in found.info.run_name]
    assert [found.info.status for found in trained] == ["FINISHED", "FINISHED"]


@pytest.mark.slow
def test_what_is_said_of_a_run_that_stopped_early_is_said_of_its_last_step(experiment, tmp_path, local_ray):
    stops = {"validation_split": "test", "validation_mixtures": 2, "validate_every": 1, "patience": 1}
    training = replace(experiment.training, learning_rate=0.3, **stops)
    # The toys have two splits.
    tested = replace(LEAST, split="train", allow_trained_on=True)
    run(replace(experiment, output=str(tmp_path), training=training, evaluation=tested, resources=INLINE))
    last = last_checkpoint(tmp_path).step
    assert last < 20
    (found,) = mlflow_runs(tmp_path)
    for name in ("loss/total", "test/small/sdr", "seconds/training", "training_seconds_per_step"):
        assert client(tmp_path).get_metric_history(found.info.run_id, name)[-1].step == last


@pytest.mark.slow
def test_two_workers_train_together(experiment, tmp_path, local_ray):
    run(replace(experiment, output=str(tmp_path), evaluation=LEAST, resources=Resources(gpu="no", num_workers=2)))
    assert last_checkpoint(tmp_path).step == 20


@pytest.mark.slow
def test_two_workers_on_two_cpus_train_200_steps_alike_with_both_executors(experiment, tmp_path, local_ray):
    histories = []
    for executor in ("ray", "inline"):
        output = tmp_path / executor
        long = replace(experiment, training=replace(experiment.training, epochs=40, log_every=10))
        resources = Resources(gpu="no", num_workers=2, executor=executor)
        run(replace(long, output=str(output), resources=resources))
        found = mlflow_runs(output)[0]
        points = client(output).get_metric_history(found.info.run_id, "loss/total")
        histories.append([(point.step, point.value) for point in sorted(points, key=lambda point: point.step)])
    # A point each ten steps, and at each checkpoint, which are four apart.
    assert [step for step, _ in histories[0]] == sorted({*range(10, 201, 10), *range(4, 201, 4)})
    assert histories[0] == histories[1]


def test_a_checkpoint_of_other_settings_is_refused_and_left_alone(undisturbed, experiment, tmp_path):
    name = run_folders(undisturbed)[0].name
    before = last_checkpoint(undisturbed)
    changed = replace(experiment, output=str(undisturbed), run_name=name, seed=1)
    recorded = [(found.info.status, found.data.tags) for found in mlflow_runs(undisturbed)]
    with pytest.raises(UsageError, match=r"seed \(was 0, is 1\)"):
        run(changed)
    after = last_checkpoint(undisturbed)
    assert (after.location, after.step) == (before.location, before.step)
    assert [(found.info.status, found.data.tags) for found in mlflow_runs(undisturbed)] == recorded


def test_absent_gpus_are_refused_before_anything_is_recorded(experiment, tmp_path, local_ray):
    with pytest.raises(UsageError, match=r"1 GPUs each\) .* 0 of 1 training process fit on .*0 GPUs\)"):
        run(replace(experiment, output=str(tmp_path), resources=Resources(gpu="yes")))
    assert not (tmp_path / "runs").exists()
    assert client(tmp_path).get_experiment_by_name("small") is None


def test_more_workers_than_cpus_are_refused_with_the_numbers(experiment, tmp_path, local_ray):
    with pytest.raises(UsageError, match=r"8 x training process .* 4 of 8 training process fit on .*\(2 CPUs"):
        run(replace(experiment, output=str(tmp_path), resources=Resources(gpu="no", num_workers=8)))
