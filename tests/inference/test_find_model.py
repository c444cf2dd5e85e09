"""A model is found by whatever names it, and what is none is refused with what there is."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from cocktail.checkpoints.earlier_run import weights_hash
from cocktail.checkpoints.store import CheckpointStore, load_checkpoint
from cocktail.inference.find_model import Places, find_model, located
from cocktail.inference.registry import Scored, register
from cocktail.inference.trained import about, load_trained
from cocktail.tracking.run import TrackedRun
from cocktail.types import UsageError
from tests.made.corpora.toy_shards import CLASSES
from tests.made.models.small_experiment import SMALL


@pytest.fixture(scope="module")
def output(tmp_path_factory) -> Path:
    """The output of a run that is finished, whose model is registered, and of one that has only begun."""
    output = tmp_path_factory.mktemp("output")
    torch.manual_seed(0)
    store = CheckpointStore(str(output / "runs" / "small-1" / "checkpoints"), about=about(SMALL, CLASSES, "shards"))
    checkpoint = store.save(7, {"model": SMALL.model.build(len(CLASSES)).state_dict()}, {}, keep=1)
    run = open_run(output, "small-1")
    run.tag({"checkpoint": checkpoint})
    register(run, checkpoint, Scored(headline={"sdr": "1.0"}))
    open_run(output, "small-2")
    return output


def open_run(output: Path, name: str) -> TrackedRun:
    uri = f"sqlite:///{output}/mlflow.db"
    return TrackedRun.open(uri, f"{output}/artifacts", experiment="small", name=name, key="k", params={})


def places(output: Path, keep_in: str = "kept") -> Places:
    return Places(tracking_uri=f"sqlite:///{output}/mlflow.db", keep_in=str(output / keep_in))


def test_a_checkpoint_a_runs_folder_its_name_its_id_and_its_registered_model_are_one(output):
    folder = output / "runs" / "small-1"
    checkpoint = str(folder / "checkpoints" / "step-00000007")
    run_id = open_run(output, "small-1").run_id
    names = [
        checkpoint,
        str(folder),
        "small-1",
        run_id,
        "models:/small/1",
        "models:/small@best",
        "models:/small/latest",
    ]
    assert {find_model(name, places(output)).location for name in names} == {checkpoint}
    assert not (output / "kept").exists()


def test_a_folder_wins_over_a_run_of_its_name_and_a_place_stays_what_it_is(output, monkeypatch):
    monkeypatch.chdir(output / "runs")
    assert find_model("small-1", places(output)).run is None
    assert located("small-1", lambda: places(output), "--start-from") == str(output / "runs" / "small-1")
    assert located("s3://bucket/runs/x", lambda: places(output), "--start-from") == "s3://bucket/runs/x"
    monkeypatch.chdir(output)
    assert located("small-1", lambda: places(output), "--start-from").endswith("checkpoints/step-00000007")


def test_a_registered_model_outlives_its_checkpoint_and_is_kept_once(output, tmp_path):
    moved = shutil.move(output / "runs", tmp_path / "runs")
    try:
        with pytest.raises(UsageError, match=r"is not at .* any more: give its registered model"):
            find_model("small-1", places(output))
        kept = [find_model("models:/small/1", places(output, "elsewhere")).location for _ in range(2)]
        assert kept[0] == kept[1] and kept[0].startswith(str(output / "elsewhere"))
        assert load_checkpoint(kept[0]).state.keys() == {"model"}
    finally:
        shutil.move(moved, output / "runs")
    ours = load_trained(find_model("small-1", places(output)).location).model.state_dict()
    assert all(value.equal(ours[name]) for name, value in load_trained(kept[0]).model.state_dict().items())


def test_a_version_is_what_was_registered_also_when_its_run_has_gone_on(tmp_path):
    store = CheckpointStore(str(tmp_path / "checkpoints"), about=about(SMALL, CLASSES, "shards"))
    model, run = SMALL.model.build(len(CLASSES)), open_run(tmp_path, "small-1")
    first = store.save(1, {"model": model.state_dict()}, {}, keep=2)
    register(run, first, Scored())
    hashes = [weights_hash(load_trained(first).model.state_dict())]
    with torch.no_grad():
        next(iter(model.parameters())).add_(1)
    run.tag({"checkpoint": store.save(2, {"model": model.state_dict()}, {}, keep=2)})
    register(run, run.tags["checkpoint"], Scored())
    hashes.append(weights_hash(model.state_dict()))
    found = [find_model(f"models:/small/{number}", places(tmp_path)).location for number in (1, 2)]
    assert [weights_hash(load_trained(each).model.state_dict()) for each in found] == hashes
    assert found[1] == run.tags["checkpoint"]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("small-2", r"--checkpoint small-2: run small-2 \(\w+, RUNNING\) has no checkpoint yet"),
        ("small-3", "no run has the name or id small-3"),
        ("models:/small/9", r"small has no version 9: its versions are 1, its aliases best \(version 1\)"),
        ("models:/small@worst", "small has no alias worst"),
        ("models:/large/1", "no registered model is called large .*: there is small"),
        ("models:/small", "models:/small names no version: expected models:/NAME/VERSION"),
        ("./nowhere", "--checkpoint .*nowhere: there is no checkpoint. Give the folder"),
    ],
)
def test_what_names_no_model_is_refused_with_what_there_is(output, name, told):
    with pytest.raises(UsageError, match=told):
        find_model(name, places(output), "--checkpoint")


def test_a_job_reads_its_places_off_its_command_line(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    given = Places.of_arguments(["x", "--output", str(tmp_path), "--mixing.num-sources", "3"])
    assert given == Places(tracking_uri=f"sqlite:///{tmp_path}/mlflow.db", keep_in=f"{tmp_path}/models")
    assert (
        Places.of_arguments(["x", "--tracking_uri=http://h:1", "--output", str(tmp_path)]).tracking_uri == "http://h:1"
    )
