"""A registered separator or localizer answers as its checkpoint does, the separator where MLflow is all there is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mlflow.artifacts
import mlflow.pyfunc
import numpy as np
import pytest
import torch
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from mlflow.models.utils import _enforce_params_schema, _enforce_schema
from mlflow.tracking import MlflowClient

from cocktail.audio.mixing import superpose
from cocktail.checkpoints.store import CheckpointStore, load_checkpoint
from cocktail.inference import load
from cocktail.inference.registry import Scored, register, save_model, slim_checkpoint
from cocktail.inference.trained import about, load_trained
from cocktail.recordings.sources import Choice
from cocktail.tracking.inputs import UsedData
from cocktail.tracking.run import TrackedRun
from cocktail.types import Query
from tests.made.corpora.shapes_and_tones import scenes
from tests.made.corpora.toy_shards import CLASSES, RATE
from tests.made.models.small_avgn import MIXING as SCENES
from tests.made.models.small_avgn import SMALL as LOCALIZER
from tests.made.models.small_experiment import SMALL
from tests.services.faulty_proxy import faulty_proxy


@dataclass
class Registered:
    """A model that was registered, and what it was made of."""

    run: TrackedRun
    checkpoint: str
    uri: str

    @property
    def client(self) -> MlflowClient:
        return MlflowClient(self.run.tracking_uri)


def make_checkpoint(folder: Path, seed: int = 0) -> str:
    torch.manual_seed(seed)
    state = {"model": SMALL.model.build(len(CLASSES)).state_dict(), "optimizers": {"momentum": torch.zeros(1000)}}
    return CheckpointStore(str(folder), about=about(SMALL, CLASSES, "shards")).save(7, state, {"seed": seed}, keep=1)


def open_run(uri: str, output: Path, name: str) -> TrackedRun:
    return TrackedRun.open(uri, f"{output}/artifacts", experiment="small", name=name, key="k", params={})


@pytest.fixture(scope="module", params=[pytest.param("database", marks=pytest.mark.slow), "server"])
def registered(request, tmp_path_factory) -> Registered:
    folder = tmp_path_factory.mktemp(request.param)
    is_server = request.param == "server"
    uri = request.getfixturevalue("mlflow_server").uri if is_server else f"sqlite:///{folder}/mlflow.db"
    run = open_run(uri, folder, "trained")
    checkpoint = make_checkpoint(folder / "checkpoints")
    run.log({"test/small/sdr": 3.25, "loss/total": 1.0}, step=7)
    return Registered(run, checkpoint, register(run, checkpoint, scored(3.25)))


TESTED_ON = UsedData(name="toys, 3 mixtures of test", where="/shards", sha256="ab" * 32, used_for="testing")


def scored(sdr: float, test_list_hash: str = "one") -> Scored:
    return Scored(
        headline={"sdr": f"{sdr:.3f}"}, test_list_hash=test_list_hash, text=f"| sdr |\n| {sdr} |", tested_on=TESTED_ON
    )


def stored_path(registered: Registered) -> str:
    return mlflow.artifacts.download_artifacts(stored_model(registered))


def stored_model(registered: Registered) -> str:
    """Where MLflow keeps what was registered."""
    return registered.client.get_model_version_download_uri("small", registered.uri.rpartition("/")[2])


def mixtures() -> np.ndarray:
    return np.random.default_rng(0).uniform(-0.5, 0.5, (2, SMALL.mixing.segment_samples)).astype(np.float32)


USER = """
import sys

sys.modules.update(dict.fromkeys(sys.argv[1].split(",")))  # cannot be imported
import mlflow.pyfunc, numpy as np
model = mlflow.pyfunc.load_model(sys.argv[2])
given = dict(np.load(sys.argv[3]))
np.save(sys.argv[4], model.predict(given.pop("alone", given), params={"classes": ["lute", "bell"]}))
import cocktail
print(cocktail.__file__)
"""
ABSENT = "ray,matplotlib,sklearn,mir_eval,soundfile,soxr,av,webdataset,torchaudio,torchvision,xxhash,pipelines,jobs"
"""What Cocktail needs for more than to separate."""


def predict_elsewhere(model: str, tmp_path: Path, absent: str, inputs: dict, **more: str) -> np.ndarray:
    """What a model gives for the inputs in a process that has only what comes with it, MLflow, and torch."""
    given, taken = tmp_path / "given.npz", tmp_path / "taken.npy"
    np.savez(given, **inputs)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    shown = subprocess.run(
        [sys.executable, "-c", USER, absent, model, str(given), str(taken)],
        cwd=tmp_path,
        env=environment | more,
        capture_output=True,
        text=True,
        check=False,
    )
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.strip().endswith("code/cocktail/__init__.py"), "loaded from elsewhere than the model"
    return np.load(taken)


def test_mlflow_alone_loads_a_model_that_separates_as_the_checkpoint_does(registered, tmp_path):
    uri = {"MLFLOW_TRACKING_URI": registered.run.tracking_uri}
    found = predict_elsewhere(registered.uri, tmp_path, ABSENT, {"alone": mixtures()}, **uri)
    model = load(registered.checkpoint, device="cpu")
    choice = Choice(classes=("lute", "bell"))
    expected = [model.separate(mixture, RATE, choice).stems[:, 0] for mixture in mixtures()]
    np.testing.assert_allclose(found, np.stack(expected), atol=1e-6)


def test_a_version_has_its_run_its_score_and_a_signature(registered, monkeypatch):
    version = registered.client.get_model_version("small", registered.uri.rpartition("/")[2])
    assert version.run_id == registered.run.run_id
    assert (version.tags["run_name"], version.tags["sdr"]) == ("trained", "3.250")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", registered.run.tracking_uri)
    told = Model.load(stored_model(registered))
    signature = told.get_model_info().signature
    assert signature.inputs.to_dict() == [{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": (-1, -1)}}]
    assert signature.outputs.to_dict()[0]["tensor-spec"] == {"dtype": "float32", "shape": (-1, -1, -1)}
    assert told.metadata == {"sample_rate_hz": RATE, "classes": list(CLASSES), "tasks": ["separation"]}


def test_an_example_of_sound_and_who_is_asked_for_is_stored_and_fits_the_signature(registered, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", registered.run.tracking_uri)
    model = mlflow.pyfunc.load_model(registered.uri)
    example: Any = model.input_example
    assert example.shape == (1, RATE)
    told = Model.load(stored_model(registered))
    params: Any = told.load_input_example_params(stored_path(registered))
    assert params == {"classes": list(CLASSES[:2]), "sample_rate_hz": RATE}
    signature = model.metadata.signature
    assert signature is not None
    np.testing.assert_array_equal(_enforce_schema(example, signature.inputs), example)
    assert _enforce_params_schema(params, signature.params) == {**params, "num_sources": 0}


def test_the_runs_scores_are_those_of_the_model_on_its_data_and_nothing_else_is(registered):
    (output,) = registered.run.outputs
    model = registered.client.get_logged_model(output.model_id)
    assert (model.name, model.source_run_id) == ("model", registered.run.run_id)
    linked = {(metric.key, metric.value, metric.dataset_name, metric.dataset_digest) for metric in model.metrics}
    assert linked == {("test/small/sdr", 3.25, "toys, 3 mixtures of test", ("ab" * 32)[:36])}
    version = registered.client.get_model_version("small", registered.uri.rpartition("/")[2])
    assert json.loads(model.tags["mlflow.modelVersions"]) == [{"name": "small", "version": int(version.version)}]
    assert version.description.startswith("| sdr |")


def test_the_best_version_is_the_one_of_the_highest_score_on_the_same_mixtures(tmp_path, capsys):
    run = open_run(f"sqlite:///{tmp_path}/mlflow.db", tmp_path, "best")
    client = MlflowClient(run.tracking_uri)

    def register_with(seed: int, score: Scored) -> str:
        register(run, make_checkpoint(tmp_path / str(seed), seed=seed), score)
        return str(client.get_model_version_by_alias("small", "best").version)

    assert register_with(0, scored(2.0)) == "1"
    assert register_with(1, scored(1.0)) == "1"
    assert register_with(2, scored(3.0)) == "3"
    assert register_with(3, scored(9.0, test_list_hash="another")) == "3"
    assert "models:/small@best stays version 3: version 4 was scored on other mixtures" in capsys.readouterr().out


def test_the_same_checkpoint_is_registered_once_and_another_is_another_version(registered, tmp_path):
    assert register(registered.run, registered.checkpoint, scored(4.0)) == registered.uri
    version = registered.client.get_model_version("small", registered.uri.rpartition("/")[2])
    assert version.tags["sdr"] == "4.000"
    other = register(registered.run, make_checkpoint(tmp_path, seed=1), Scored())
    assert other == f"models:/small/{int(version.version) + 1}"


def test_a_registration_that_was_not_confirmed_makes_no_second_version(mlflow_server, tmp_path):
    with faulty_proxy(mlflow_server.uri.removeprefix("http://")) as (uri, faults):
        run = open_run(uri, tmp_path, "unconfirmed")
        faults.unconfirmed = "model-versions/create"
        registered = register(run, make_checkpoint(tmp_path, seed=2), Scored())
        assert not faults.unconfirmed
    found = MlflowClient(mlflow_server.uri).search_model_versions(f"name = 'small' and run_id = '{run.run_id}'")
    assert [f"models:/small/{version.version}" for version in found] == [registered]


def test_classes_that_are_not_known_are_refused_with_those_that_are(registered, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", registered.run.tracking_uri)
    model = mlflow.pyfunc.load_model(registered.uri)
    for classes in ({}, {"classes": []}, {"classes": ["lute", "lute"]}, {"classes": ["viola"]}):
        with pytest.raises(ValueError, match="The model knows bell, drum, harp, horn, lute"):
            model.predict(mixtures(), params=classes)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory) -> Any:
    """A separator that MLflow stored and loaded, without a server."""
    folder = tmp_path_factory.mktemp("separator")
    save_model(make_checkpoint(folder / "checkpoints"), folder / "model")
    return mlflow.pyfunc.load_model(str(folder / "model"))


def test_a_model_that_is_told_the_rate_refuses_any_but_its_own(loaded):
    asked = {"classes": ["lute", "bell"]}
    known = loaded.predict(mixtures(), params={**asked, "sample_rate_hz": RATE})
    np.testing.assert_array_equal(known, loaded.predict(mixtures(), params=asked))
    with pytest.raises(ValueError, match=rf"was trained on sound at {RATE} Hz and hears no other, not 16000 Hz"):
        loaded.predict(mixtures(), params={**asked, "sample_rate_hz": 16000})


@pytest.mark.parametrize("num_samples", [50, 3000, 10_123])
def test_mixtures_may_have_any_length(loaded, num_samples):
    sound = np.random.default_rng(0).uniform(-0.5, 0.5, (2, num_samples)).astype(np.float32)
    assert loaded.predict(sound, params={"classes": ["lute", "bell"]}).shape == (2, 2, num_samples)


def test_a_model_says_which_packages_it_needs_and_each_is_asked_for_once(tmp_path, localizer, monkeypatch):
    def packages(model: Path) -> list[str]:
        lines = (model / "requirements.txt").read_text().splitlines()
        return sorted(line.partition("==")[0] for line in lines)

    needed = ["mlflow", "numpy", "pyarrow", "safetensors", "scipy", "torch", "tyro"]
    assert packages(Path(localizer[1])) == sorted([*needed, "torchvision"])
    monkeypatch.setattr(type(SMALL.model), "packages", ("scikit-learn", "scipy"))
    save_model(make_checkpoint(tmp_path / "checkpoints"), tmp_path / "model")
    assert packages(tmp_path / "model") == sorted([*needed, "scikit-learn"])


def test_a_slim_checkpoint_has_the_weights_and_nothing_else(tmp_path):
    checkpoint = make_checkpoint(tmp_path / "whole")
    slim = load_checkpoint(slim_checkpoint(checkpoint, str(tmp_path / "slim")))
    assert slim.step == 7
    assert slim.state.keys() == {"model"}
    whole = load_checkpoint(checkpoint).state["model"]
    assert whole.keys() == slim.state["model"].keys()
    assert all(value.equal(whole[name]) for name, value in slim.state["model"].items())


@pytest.fixture(scope="module")
def localizer(tmp_path_factory) -> tuple[str, str]:
    """A checkpoint, and the model that was saved of it."""
    folder = tmp_path_factory.mktemp("localizer")
    experiment = replace(SMALL, model=LOCALIZER, mixing=SCENES)
    torch.manual_seed(0)
    state = {"model": LOCALIZER.build(len(CLASSES)).state_dict()}
    store = CheckpointStore(str(folder / "checkpoints"), about=about(experiment, CLASSES, "shards"))
    checkpoint = store.save(7, state, {}, keep=1)
    save_model(checkpoint, folder / "model")
    return checkpoint, str(folder / "model")


def seen_and_heard() -> dict[str, np.ndarray]:
    batch = scenes([[0, 3], [2, 1]])
    assert batch.pictures is not None
    return {"mixture": superpose(batch).numpy(), "pictures": batch.pictures[:, :, 0].numpy()}


def expected_maps(checkpoint: str) -> np.ndarray:
    given = {name: torch.tensor(value) for name, value in seen_and_heard().items()}
    class_ids = torch.tensor([[CLASSES.index("lute"), CLASSES.index("bell")]] * 2)
    with torch.inference_mode():
        return (
            load_trained(checkpoint)
            .model.localize(given["mixture"], Query.naming(class_ids, given["pictures"][:, :, None]))
            .maps.numpy()
        )


def test_a_localizer_takes_sounds_with_pictures_and_gives_maps(localizer):
    checkpoint, saved = localizer
    model = mlflow.pyfunc.load_model(saved)
    assert model.metadata.metadata is not None
    assert model.metadata.metadata["picture_side"] == 64
    maps = model.predict(seen_and_heard(), params={"classes": ["lute", "bell"]})
    np.testing.assert_allclose(maps, expected_maps(checkpoint), atol=1e-6)


@pytest.mark.slow
def test_mlflow_alone_loads_a_model_that_localizes_as_the_checkpoint_does(localizer, tmp_path):
    checkpoint, saved = localizer
    found = predict_elsewhere(saved, tmp_path, ABSENT.replace("torchvision,", ""), seen_and_heard())
    np.testing.assert_allclose(found, expected_maps(checkpoint), atol=1e-6)


def test_what_a_localizer_cannot_take_is_refused_with_the_shapes(localizer):
    model, given = mlflow.pyfunc.load_model(localizer[1]), seen_and_heard()
    with pytest.raises(ValueError, match="2 pictures of 1 sources"):
        model.predict(given, params={"classes": ["lute"]})
    with pytest.raises(ValueError, match="'mixture': 2, 'pictures': 1}: give as many of each"):
        model.predict({**given, "pictures": given["pictures"][:1]}, params={"classes": ["lute", "bell"]})
    for pictures in (given["pictures"][:, :, :, :50], given["pictures"][:, :, ::2, ::2]):
        with pytest.raises(MlflowException, match=r"does not match expected shape \(-1, -1, 64, 64, 3\)"):
            model.predict({**given, "pictures": pictures}, params={"classes": ["lute", "bell"]})
