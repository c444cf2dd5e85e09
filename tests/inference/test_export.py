"""A model is handed on as a folder that model hubs take, that holds no pickle, and that opens as a checkpoint does."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cocktail.checkpoints import store as checkpoints
from cocktail.checkpoints.earlier_run import take_weights
from cocktail.checkpoints.store import CheckpointStore, load_checkpoint
from cocktail.checkpoints.training_record import TrainedOn
from cocktail.inference.card import Card, training_command
from cocktail.inference.export import Export, _without_places, export, load_exported
from cocktail.inference.models_table import Models, models
from cocktail.inference.registry import Scored, register
from cocktail.inference.trained import about, load_trained
from cocktail.tracking.inputs import UsedData, log_data
from cocktail.tracking.run import TrackedRun
from cocktail.types import Query, UsageError
from tests.made.corpora.toy_shards import CLASSES
from tests.made.models.small_experiment import SMALL
from tests.services.model_hub import model_hub

HASH = "ab" * 32
FILES = ["README.md", "cocktail.json", "model.safetensors"]


def make_checkpoint(folder: Path, seed: int = 0) -> str:
    torch.manual_seed(seed)
    known = about(
        replace(SMALL, data="/home/lab/toys", start_from="/home/lab/runs/earlier"),
        CLASSES,
        "/home/lab/toys",
        trained_on=(TrainedOn(data="s3://lab/toys-v2", manifest=HASH, split="train"),),
        started_from="the whole model of /home/lab/runs/earlier/checkpoints/step-00000003, SHA-256 0123",
    )
    return CheckpointStore(str(folder), about=known).save(7, {"model": build().state_dict()}, {"seed": seed}, keep=1)


def build() -> torch.nn.Module:
    return SMALL.model.build(len(CLASSES))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> str:
    return make_checkpoint(tmp_path_factory.mktemp("made") / "checkpoints")


@pytest.fixture(scope="module")
def exported(checkpoint, tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("exported") / "model"
    return export(asked(checkpoint, folder))


def asked(model: str, folder: Path, **more: str) -> Export:
    return Export(model=model, folder=str(folder), **{"output": str(folder.parent / "output"), **more})


def test_an_exported_model_answers_as_its_checkpoint_does(checkpoint, exported):
    assert sorted(path.name for path in Path(exported).iterdir()) == FILES
    ours, theirs = load_trained(checkpoint), load_exported(exported)
    assert (theirs.classes, theirs.mixing, theirs.name) == (ours.classes, ours.mixing, ours.name)
    query = Query.naming(torch.tensor([[0, 1]]))
    mixture = torch.rand(1, SMALL.mixing.segment_samples) - 0.5
    with torch.no_grad():
        answers = [trained.model.separate(mixture, query).estimates for trained in (ours, theirs)]
    assert torch.equal(*answers)


def test_no_file_of_it_is_a_pickle_and_none_is_read_as_one(exported, monkeypatch):
    for path in Path(exported).iterdir():
        assert not path.read_bytes().startswith((b"PK", b"\x80")), f"{path.name} may hold a pickle"

    def unpickle(*_, **__):
        raise AssertionError("a pickle is read")

    monkeypatch.setattr(torch, "load", unpickle)
    monkeypatch.setattr(checkpoints, "unpack_state", unpickle)
    assert load_exported(exported).classes == CLASSES


def test_it_names_data_by_their_hashes_and_no_place_of_the_machine_that_it_comes_from(exported):
    written = "".join((Path(exported) / name).read_text() for name in ("README.md", "cocktail.json"))
    assert "/home" not in written and "s3://" not in written
    config = json.loads((Path(exported) / "cocktail.json").read_text())
    assert config["about"]["trained_on"] == [{"data": "toys-v2", "manifest": HASH, "split": "train"}]
    assert config["about"]["started_from"] == "the whole model of step-00000003, SHA-256 0123"
    assert config["about"]["settings"]["start_from"] == "earlier"


def test_of_places_in_settings_and_in_what_it_started_from_the_last_names_alone_are_kept():
    settings = {
        "data": "lab/Jane Doe/toys", "start_from": "models:/small/3", "evaluation.data": "../lab/others/",
        "evaluation.test_list": "lists/mine.parquet", "model.initial_weights": "auto", "model.encoders": ("a/b", 3),
        "mixing.backgrounds": ["/home/lab/rain", ("s3://lab/wind/", 2.0)], "model.kind": "and/or",
    }  # fmt: skip

    def started(text: str) -> str:
        return _without_places({"data": "/x/toys", "settings": settings, "started_from": text})["started_from"]

    assert _without_places({"data": "a/toys", "settings": settings})["settings"] == {
        "data": "toys", "start_from": "models:/small/3", "evaluation.data": "others",
        "evaluation.test_list": "mine.parquet", "model.initial_weights": "auto", "model.encoders": ["a/b", 3],
        "mixing.backgrounds": ["rain", ["wind", 2.0]], "model.kind": "and/or",
    }  # fmt: skip
    step = "checkpoints/step-00000001"
    assert started(f"all of /home/Jane Doe/runs/x/{step}") == "all of step-00000001"
    assert started(f"unet of s3://lab/Jane Doe/{step}, SHA-256 01") == "unet of step-00000001, SHA-256 01"
    below = "ImageNet (IMAGENET1K_V1), SHA-256 f37072fd, and over them "
    assert started(f"{below}unet of /a b/{step}, SHA-256 01") == f"{below}unet of step-00000001, SHA-256 01"
    assert started("random weights") == "random weights"


def test_a_training_starts_from_it_as_from_the_checkpoint(checkpoint, exported):
    for parts in ((), ("unet",)):
        found = [take_weights(place, parts, build(), SMALL.model.build, CLASSES)[1] for place in (checkpoint, exported)]
        assert list(found[0]) == list(found[1]), "in one order, by which runs know what they started from"
        assert all(value.equal(found[1][name]) for name, value in found[0].items())


def test_the_card_says_what_it_is_and_that_neither_scores_nor_licence_are_known(exported):
    card = (Path(exported) / "README.md").read_text()
    head, _, body = card.removeprefix("---\n").partition("---\n")
    assert head.splitlines() == [
        'license: "unknown"', "library_name: cocktail", "pipeline_tag: audio-to-audio", "tags:", "- audio",
        "- audio-source-separation",
    ]  # fmt: skip
    assert "Trained on mixtures of 2 sources of the split train, from the whole model of step-00000003" in body
    assert f"| toys-v2  | train | {HASH} |" in body
    assert f"5: {', '.join(CLASSES)}" in body
    assert "No scores are known" in body and "Nobody has said under which licence" in body
    assert "snapshot_download" in body


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("jobs/conv_tasnet.py fuss --data /home/a/fuss", "jobs/conv_tasnet.py fuss"),
        ("/work/jobs/sound_of_pixels.py music --data=x", "jobs/sound_of_pixels.py music"),
        ("jobs/sgn_vggsound.py --data s3://lab/v --seed 3", "jobs/sgn_vggsound.py"),
        ("jobs/nmf_sup.py musdb18", "jobs/nmf_sup.py musdb18 --preset demo"),
        ("jobs/hdemucs.py musdb18 --preset paper", "jobs/hdemucs.py musdb18"),
        (
            "jobs/wave_unet.py fuss --data x --model.num_layers 3 --preset demo --model.initial-weights /home/a/w.pt",
            "jobs/wave_unet.py fuss --preset demo --model.num-layers 3",
        ),
        ("", None),
        ("'jobs/unended.py", None),
        ("/home/a/own/train.py --data x", None),
    ],
)
def test_the_command_to_train_from_a_model_is_that_of_the_job_that_made_it(command, told):
    expected = None if told is None else f"python {told} --data SHARDS"
    assert training_command({"command": command}) == expected
    assert training_command({"command": command, "mlflow.parentRunId": "7"}) is None


def test_the_card_names_the_folder_and_the_commands_that_work_with_it(checkpoint, exported, tmp_path):
    card = (Path(export(asked(checkpoint, tmp_path / "my model"))) / "README.md").read_text()
    assert "cocktail separate song.mp3 --model 'my model' --output stems" in card
    assert "--start-from" not in card and "localize" not in card, "nobody knows the job, and it does not localize"
    trained = replace(load_exported(exported), name="conv_tasnet_fuss")
    tags = {"command": "jobs/conv_tasnet.py fuss --data x"}
    card = Card(trained=trained, folder="handed-on", step=7, sha256=HASH, licence="mit", scores="none", tags=tags)
    assert "`python jobs/conv_tasnet.py fuss --data SHARDS --start-from handed-on`" in card.to_markdown()


def test_damage_to_either_file_is_told(exported, tmp_path):
    def copy(name: str) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        for file in FILES:
            (folder / file).write_bytes((Path(exported) / file).read_bytes())
        return folder

    cut = copy("cut")
    (cut / "model.safetensors").write_bytes((cut / "model.safetensors").read_bytes()[:-4])
    with pytest.raises(UsageError, match=r"cut is damaged \(its hash is wrong\): get it again"):
        load_exported(str(cut))
    without = copy("without")
    (without / "model.safetensors").unlink()
    with pytest.raises(UsageError, match=r"has no model.safetensors\): get it again"):
        load_exported(str(without))
    other = copy("other")
    config = json.loads((other / "cocktail.json").read_text())
    (other / "cocktail.json").write_text(json.dumps({**config, "weights": config["weights"][1:]}))
    with pytest.raises(UsageError, match="holds other weights than it says"):
        load_exported(str(other))
    (other / "cocktail.json").write_text(json.dumps({**config, "schema": "cocktail-export/9"}))
    with pytest.raises(UsageError, match=r"this version reads cocktail-export/1"):
        load_exported(str(other))
    with pytest.raises(UsageError, match=r"holds no exported model: it has no cocktail\.json"):
        load_exported(str(tmp_path))


def test_a_folder_of_something_else_is_left_alone(checkpoint, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UsageError, match=r"holds thesis\.tex, and no exported model"):
        export(asked(checkpoint, tmp_path, output=str(tmp_path / "output")))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_hub_takes_the_folder_as_it_is_and_gives_it_back(exported, tmp_path):
    hub_client = pytest.importorskip("huggingface_hub", reason="the extra `hub` is not installed")
    with model_hub() as hub:
        hub.repos["lab/sgn"] = {}
        api = hub_client.HfApi(endpoint=hub.uri, token="hf_of_the_test")
        api.upload_folder(repo_id="lab/sgn", folder_path=exported)
        assert hub.repos["lab/sgn"] == {name: (Path(exported) / name).read_bytes() for name in FILES}
        got = hub_client.snapshot_download(
            "lab/sgn", endpoint=hub.uri, cache_dir=tmp_path / "cache", token=False, etag_timeout=30
        )
    assert load_checkpoint(got).step == 7
    weights = load_exported(exported).model.state_dict()
    assert all(value.equal(weights[name]) for name, value in load_exported(got).model.state_dict().items())


@pytest.fixture(scope="module")
def tracked(tmp_path_factory) -> TrackedRun:
    """A run whose model is registered, with scores."""
    output = tmp_path_factory.mktemp("output")
    run = TrackedRun.open(
        f"sqlite:///{output}/mlflow.db", f"{output}/artifacts", experiment="small", name="small-1", key="k",
        params={"seed": "0"}, place="a name",
    )  # fmt: skip
    checkpoint = make_checkpoint(output / "small-1/checkpoints")
    (output / "small-1/place.json").write_text('{"name": "a name"}')
    evaluation = TrackedRun.open(
        run.tracking_uri, f"{output}/artifacts", experiment="small", name="evaluate-1", key="k", params={}
    )
    evaluation.tag({"checkpoint": checkpoint})
    run.tag({"checkpoint": checkpoint, "git_commit": "c0ffee", "torch": "2.14"})
    log_data(run, [UsedData(name="toy sounds", where="/toys", sha256=HASH, used_for="training")])
    (output / "report").mkdir()
    (output / "report" / "table.md").write_text("| system | SDR | 95 % interval |\n| mixture | 0.1 | 0 to 0.2 |\n")
    run.store(output / "report")
    register(run, checkpoint, Scored(headline={"sdr": "3.250"}, test_list_hash="one"))
    return run


@pytest.mark.parametrize("name", ["small-1", "models:/small/1", "models:/small@best", "models:/small/latest"])
def test_a_run_or_registered_model_is_exported_with_its_scores_and_the_names_of_its_data(tracked, tmp_path, name):
    folder = export(asked(name, tmp_path / "model", tracking_uri=tracked.tracking_uri, licence="cc-by-4.0"))
    card = (Path(folder) / "README.md").read_text()
    assert 'license: "cc-by-4.0"' in card and "Licence of the weights: cc-by-4.0." in card
    assert "| mixture | 0.1 | 0 to 0.2 |" in card
    assert f"| toy sounds | train | {HASH} |" in card
    assert "c0ffee" in card and "small-1" in card
    assert load_exported(folder).classes == CLASSES


def test_scores_are_found_by_the_checkpoint_or_its_folder_and_where_there_are_none_the_card_says_why(tracked, tmp_path):
    def card(model: str, name: str) -> str:
        folder = export(asked(model, tmp_path / name, tracking_uri=tracked.tracking_uri))
        return (Path(folder) / "README.md").read_text()

    checkpoint = Path(tracked.tags["checkpoint"])
    moved = shutil.copytree(checkpoint.parents[1], tmp_path / "moved")
    named = (checkpoint, checkpoint.parents[1], moved, moved / "checkpoints" / checkpoint.name, "evaluate-1")
    for number, model in enumerate(named):
        assert "| mixture | 0.1 | 0 to 0.2 |" in card(str(model), f"model-{number}")
    (moved / "checkpoints" / checkpoint.name).rename(moved / "checkpoints/step-00000006")
    assert "No scores are known: the run that made it was not found" in card(str(moved), "of another step")
    unscored = TrackedRun.open(
        tracked.tracking_uri, f"{tmp_path}/artifacts", experiment="small", name="small-2", key="k", params={"seed": "1"}
    )
    unscored.tag({"checkpoint": make_checkpoint(tmp_path / "unscored")})
    assert "the run that made it, small-2, has none" in card(unscored.tags["checkpoint"], "unscored model")


def test_models_lists_versions_with_aliases_data_and_score(tracked, tmp_path):
    asked = Models(tracking_uri=tracked.tracking_uri)
    header, _, row = ([cell.strip() for cell in line.strip("|").split("|")] for line in models(asked).splitlines())
    assert header == ["model", "version", "aliases", "trained on", "score", "made", "run"]
    assert row[:5] == ["small", "1", "best", "toy sounds (abababab)", "SDR 3.250 dB"]
    assert row[6] == "small-1"
    assert models(replace(asked, name="other")).startswith("there is no registered model with 'other' in its name in ")
    with pytest.raises(UsageError, match="there is no MLflow database"):
        models(Models(tracking_uri=f"sqlite:///{tmp_path}/none.db"))
