"""A job of three stages on toy shards: real runs, each from the one before, that go on after one was finished."""

from __future__ import annotations

import itertools
import os
import pickle
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient
from torch import Tensor

from cocktail.checkpoints.store import checkpoint_store, load_checkpoint
from cocktail.models.mp_net import STAGES
from pipelines.experiments.run import run
from pipelines.experiments.stages import run_stages
from tests.made.corpora.toy_shards import make_toy_shards
from tests.made.models.small_stages import SMALL

PROJECT = Path(__file__).parents[2]
MINUS = ("visual_encoder.", "unet.", "mask_head.")


def newest_weights(folder: str) -> dict[str, Tensor]:
    newest = checkpoint_store(folder).newest()
    assert newest is not None
    return load_checkpoint(newest).state["model"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_three_stages_are_three_runs_of_which_finished_ones_are_found_again(tmp_path, local_ray, capfd):
    shards = make_toy_shards(tmp_path / "shards", with_pictures=True).folder
    experiment = replace(SMALL, data=shards, output=str(tmp_path), tracking_uri=None, run_name="net")
    run(replace(experiment, run_name="net-minus"))
    capfd.readouterr()
    last = run_stages(experiment, STAGES)
    said = capfd.readouterr().out
    names = dict(zip(STAGES, ("net-minus", "net-plus", "net"), strict=True))
    folders = {stage: tmp_path / "runs" / name for stage, name in names.items()}
    assert f"stage minus is finished: {folders['minus']}" in said and last.name == "net"
    assert all((folder / "finished.json").exists() for folder in folders.values())
    weights = {stage: newest_weights(str(folder)) for stage, folder in folders.items()}
    for before, after, still in (("minus", "plus", True), ("plus", "joint", False)):
        of_minus = {name for name in weights[before] if name.startswith(MINUS)}
        unchanged = {name for name, value in weights[before].items() if value.equal(weights[after][name])}
        assert (of_minus <= unchanged) == still
        assert any(name.startswith("plus_unet.") for name in weights[before].keys() - unchanged)
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    found = client.get_experiment_by_name("staged")
    assert found is not None
    recorded = {each.info.run_name: each for each in client.search_runs([found.experiment_id])}
    assert set(recorded) == {folder.name for folder in folders.values()}
    for before, after in itertools.pairwise(STAGES):
        data = recorded[names[after]].data
        assert data.tags["initial_weights"].startswith(
            f"the whole model of {folders[before]}/checkpoints/step-00000002"
        )
        assert data.params["model.stage"] == after and "test/staged/sdr" in data.metrics


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_in_the_middle_of_a_stage_it_goes_on_there_and_ends_with_the_same_weights(tmp_path, local_ray, capfd):
    shards = make_toy_shards(tmp_path / "shards", with_pictures=True).folder
    training = replace(SMALL.training, max_steps=12, checkpoint_every=2)
    experiment = replace(SMALL, data=shards, tracking_uri=None, run_name="net", training=training)
    undisturbed, killed = (replace(experiment, output=str(tmp_path / name)) for name in ("undisturbed", "killed"))
    run_stages(undisturbed, STAGES)
    script = (
        "import pickle, sys\n"
        "from cocktail.models.mp_net import STAGES\n"
        "from pipelines.experiments.stages import run_stages\n"
        "run_stages(pickle.load(sys.stdin.buffer), STAGES)\n"
    )
    path = f"{PROJECT}{os.pathsep}{PROJECT / 'platform'}"
    job = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=PROJECT,
        env=os.environ | {"PYTHONPATH": path},
        stdin=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        assert job.stdin is not None
        with job.stdin:
            pickle.dump(killed, job.stdin)
        plus = tmp_path / "killed/runs/net-plus"
        while not list(plus.glob("checkpoints/step-*/meta.json")):
            assert job.poll() is None, "the job ended before the second stage's first checkpoint"
            time.sleep(0.01)
    finally:
        os.killpg(job.pid, signal.SIGKILL)
        job.wait()
    assert not (plus / "finished.json").exists()
    capfd.readouterr()
    run_stages(killed, STAGES)
    said = capfd.readouterr().out
    assert f"stage minus is finished: {plus.parent / 'net-minus'}" in said and "stage plus, before joint" in said
    for name in ("net-minus", "net-plus", "net"):
        ours, theirs = (newest_weights(f"{each.output}/runs/{name}") for each in (undisturbed, killed))
        assert all(value.equal(theirs[key]) for key, value in ours.items()), name
