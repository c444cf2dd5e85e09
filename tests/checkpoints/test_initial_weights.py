"""Weights to start from: found, described, and refused if they are not what they should be."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from cocktail.checkpoints.earlier_run import names_of_classes, weights_hash
from cocktail.checkpoints.initial_weights import IMAGENET_FILE, InitialWeights, load_weights, torchvision_weights
from cocktail.checkpoints.store import CheckpointStore, checkpoint_store
from cocktail.config.experiment import Experiment
from cocktail.config.mixing import Mixing
from cocktail.config.model import ModelConfig, Start
from cocktail.layers.resnet import ResNet18
from cocktail.models.avgn import AVGNConfig
from cocktail.types import UsageError
from tests.made.models.small_avgn import SMALL

ENCODER = ("visual_encoder.resnet",)
CLASSES = ("flute", "oboe", "viola")
SCENES = Mixing(
    sample_rate_hz=SMALL.spectrum.sample_rate_hz,
    segment_samples=3 * SMALL.spectrum.sample_rate_hz,
    pictures_per_source=1,
    picture_side=128,
)


def start(chosen: str) -> Start:
    return Start(setting="initial_weights", chosen=chosen, modules=ENCODER)


def experiment(model: AVGNConfig = SMALL, **settings: Any) -> Experiment[AVGNConfig]:
    return Experiment(name="x", model=model, mixing=SCENES, **settings)


@pytest.fixture
def weights(tmp_path) -> Path:
    """A file as torchvision's: of the small model's encoder, with a classifier behind it."""
    torch.manual_seed(7)
    state = {
        **ResNet18(width=SMALL.resnet_width).state_dict(),
        "fc.weight": torch.zeros(3, 64),
        "fc.bias": torch.zeros(3),
    }
    path = tmp_path / "weights.pth"
    torch.save(state, path)
    return path


@pytest.fixture
def earlier(tmp_path) -> Path:
    """The folder of a run of the small model, which has selected its checkpoint of step 4 and gone on to step 8."""
    return make_run(tmp_path / "earlier", SMALL, CLASSES)


def make_run(folder: Path, model: AVGNConfig, classes: tuple[str, ...]) -> Path:
    store = replace(checkpoint_store(str(folder)), about={"classes": list(classes)})
    for step in (4, 8):
        torch.manual_seed(step)
        store.save(step, {"model": model.build(len(classes)).state_dict()}, {}, keep=2, best=4)
    return folder


def state_of(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def started(given: Experiment, kept: Path) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """A model's weights before and after a worker has started it from what is kept."""
    torch.manual_seed(0)
    model = given.model.build(len(CLASSES))
    before = state_of(model)
    for file in InitialWeights.find(given, CLASSES, str(kept)).keep(str(kept)):
        file.load(model)
    return before, state_of(model)


def test_auto_takes_what_torchvision_keeps_and_is_refused_where_it_keeps_nothing(tmp_path, monkeypatch, weights):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    kept_by_runs = str(tmp_path / "initial")
    with pytest.raises(UsageError) as refused:
        InitialWeights.find(experiment(replace(SMALL, initial_weights="auto")), CLASSES, kept_by_runs)
    places = f"{tmp_path}/torch/hub/checkpoints/{IMAGENET_FILE} nor at {tmp_path}/initial/{IMAGENET_FILE}"
    assert str(refused.value) == (
        f"--model.initial-weights auto starts from ImageNet's weights, which are neither at {places}: put "
        "torchvision's file of ResNet-18 there, name another with --model.initial-weights FILE, or ask for random "
        "weights with --model.initial-weights none"
    )
    kept = tmp_path / "torch" / "hub" / "checkpoints" / IMAGENET_FILE
    kept.parent.mkdir(parents=True)
    kept.write_bytes(weights.read_bytes())
    there = torchvision_weights(start("auto"), kept_by_runs)
    assert there.files[0].data == weights.read_bytes()
    assert there.sha256 is not None
    assert there.description == f"{IMAGENET_FILE}, SHA-256 {there.sha256[:16]}"  # by its digits it is not ImageNet's
    assert torchvision_weights(start("none"), kept_by_runs) == InitialWeights.random()
    # A run keeps them, and goes on with them where torchvision no longer has them.
    (file,) = there.keep(kept_by_runs)
    assert file.location == f"{kept_by_runs}/{IMAGENET_FILE}"
    kept.unlink()
    assert torchvision_weights(start("auto"), kept_by_runs) == there


def test_the_encoder_starts_from_the_files_weights_and_nothing_else_does(tmp_path, weights):
    before, after = started(experiment(replace(SMALL, initial_weights=str(weights))), tmp_path / "initial")
    theirs = torch.load(weights, weights_only=True)
    for name, value in after.items():
        own = name.removeprefix("visual_encoder.resnet.")
        torch.testing.assert_close(value, theirs[own] if own != name else before[name], rtol=0, atol=0)


@pytest.mark.parametrize("content", [b"", b"no weights", "larger"])
def test_a_file_of_anything_else_is_refused(tmp_path, content):
    path = tmp_path / "weights.pth"
    if content == "larger":
        torch.save(ResNet18(width=16).state_dict(), path)
    else:
        path.write_bytes(content)
    refused = r"^--model\.initial-weights: .* does not hold torchvision's weights of this model's ResNet-18"
    with pytest.raises(UsageError, match=refused) as told:
        InitialWeights.find(experiment(replace(SMALL, initial_weights=str(path))), CLASSES, "nowhere")
    assert "\n" not in str(told.value)
    assert ("set model.resnet_width 16" in str(told.value)) == (content == "larger")
    with pytest.raises(UsageError, match=r"does not hold torchvision's weights"):
        load_weights(SMALL.build(3), path.read_bytes(), ENCODER, str(path))


def test_a_file_that_is_not_there_is_named_with_what_to_give():
    with pytest.raises(UsageError, match=r"no weights at .*: give torchvision's file of ResNet-18"):
        torchvision_weights(start("/absent.pth"), "nowhere")


def test_a_setting_that_needs_imagenet_is_refused_with_random_weights():
    with pytest.raises(UsageError, match=r"^--model\.ogl-alpha needs .* --model\.initial-weights$"):
        InitialWeights.find(experiment(replace(SMALL, ogl_alpha=0.4)), CLASSES, "nowhere")


def test_a_run_starts_from_the_whole_model_of_the_checkpoint_that_another_has_selected(tmp_path, earlier):
    given = experiment(start_from=str(earlier))
    torch.manual_seed(4)
    theirs = SMALL.build(3).state_dict()
    _, after = started(given, tmp_path / "initial")
    for name, value in after.items():
        torch.testing.assert_close(value, theirs[name], rtol=0, atol=0)
    initial = InitialWeights.find(given, CLASSES, "nowhere")
    step_4 = f"{earlier}/checkpoints/step-00000004"
    assert initial.sha256 is not None
    assert initial.description == f"the whole model of {step_4}, SHA-256 {initial.sha256[:16]}"
    assert initial.checkpoint == step_4
    assert InitialWeights.find(experiment(start_from=step_4), CLASSES, "nowhere") == initial
    other = InitialWeights.find(experiment(start_from=step_4[:-1] + "8"), CLASSES, "nowhere")
    assert other.sha256 not in (None, initial.sha256)


def test_parts_that_are_named_are_taken_over_torchvisions_weights_and_the_rest_stays(tmp_path, weights, earlier):
    model = replace(SMALL, initial_weights=str(weights))
    given = experiment(model, start_from=str(earlier), start_parts=("audio_encoder", "visual_encoder.resnet.layer1"))
    torch.manual_seed(4)
    theirs, imagenet = SMALL.build(3).state_dict(), torch.load(weights, weights_only=True)
    before, after = started(given, tmp_path / "initial")
    for name, value in after.items():
        own = name.removeprefix("visual_encoder.resnet.")
        taken = name.startswith(("audio_encoder.", "visual_encoder.resnet.layer1."))
        expected = theirs[name] if taken else imagenet[own] if own != name else before[name]
        torch.testing.assert_close(value, expected, rtol=0, atol=0)
    initial = InitialWeights.find(given, CLASSES, "nowhere")
    assert len({initial.sha256, *(file.sha256 for file in initial.files)}) == 3
    assert ", and over them audio_encoder, visual_encoder.resnet.layer1 of " in initial.description


def test_torchvisions_weights_are_not_asked_for_where_the_checkpoint_gives_what_they_would(earlier):
    model = replace(SMALL, initial_weights="/absent.pth")
    for parts in ((), ("visual_encoder",), ENCODER):
        given = experiment(model, start_from=str(earlier), start_parts=parts)
        assert len(InitialWeights.find(given, CLASSES, "nowhere").files) == 1
    with pytest.raises(UsageError, match=r"no weights at /absent.pth"):
        given = experiment(model, start_from=str(earlier), start_parts=("audio_encoder",))
        InitialWeights.find(given, CLASSES, "nowhere")


@pytest.mark.parametrize(
    ("model", "classes", "parts", "message"),
    [
        (SMALL, CLASSES, ("unet",), r"--start-parts unet: .*step-00000004 has no such part\. It has .*audio_encoder"),
        (
            replace(SMALL, depth=2),
            CLASSES,
            (),
            r"the whole model of .* does not fit this model: it has no audio_branch\.layers\.1\..* and \d+ more\. "
            r"Of the checkpoint, the parts that fit are class_tokens, visual_encoder, audio_encoder, token_classifier "
            r"\(--start-parts\)",
        ),
        (
            replace(SMALL, resnet_width=16),
            CLASSES,
            ("audio_encoder",),
            r"audio_encoder\.\S+ has the shape \[8\S*.*the model's \[16",
        ),
        (
            SMALL,
            (*CLASSES, "tuba"),
            ("class_tokens",),
            r"class_tokens is of other classes\. Of the checkpoint, the parts",
        ),
        (SMALL, CLASSES[::-1], (), r"class_tokens is of other classes; token_classifier\.bias is of other classes"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_does(earlier, model, classes, parts, message):
    given = experiment(model, start_from=str(earlier), start_parts=parts)
    with pytest.raises(UsageError, match=message):
        InitialWeights.find(given, classes, "nowhere")


def test_parts_that_know_no_classes_are_taken_by_a_model_of_others(earlier):
    given = experiment(start_from=str(earlier), start_parts=("visual_encoder", "audio_branch"))
    assert len(InitialWeights.find(given, ("piano", "tuba"), "nowhere").files) == 1


class Heads(nn.Module):
    """An encoder, and for each class a head and a row of a weight."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.encoder = nn.Linear(2, 2)
        heads = nn.ModuleList(nn.Sequential(nn.Linear(2, 1, bias=False)) for _ in range(num_classes))
        self.decoder = nn.ModuleDict({"first": nn.Linear(2, 2), "heads": heads})
        self.heads_mixed = nn.Linear(2, 1)
        self.rows = nn.Parameter(torch.zeros(num_classes, 2))


def test_weights_of_classes_are_told_by_their_shapes_and_by_lists_that_are_longer_with_more_classes():
    found = names_of_classes(Heads(2).state_dict(), Heads(3).state_dict())
    assert found == {"decoder.heads.0.0.weight", "decoder.heads.1.0.weight", "rows"}


def test_where_the_model_itself_has_more_modules_with_more_classes_no_weight_surely_knows_none():
    def model(num_classes: int) -> nn.Module:
        return nn.ModuleDict({f"head_of_{num_classes}": nn.Linear(1, 1), "encoder": nn.Linear(1, 1)})

    weights = model(2).state_dict()
    assert names_of_classes(weights, model(3).state_dict()) == weights.keys()


@pytest.mark.parametrize(
    ("dtype", "ones"), [(torch.float32, b"\x00\x00\x80\x3f"), (torch.bfloat16, b"\x80\x3f")], ids=str
)
def test_a_hash_of_weights_is_of_their_names_types_shapes_and_bytes_in_their_order(dtype, ones):
    weights = {"w": torch.ones(2, 1, dtype=dtype), "count": torch.tensor(3), "b": torch.ones(1, dtype=dtype)}
    written = f"w {dtype} (2, 1)\n".encode() + 2 * ones + b"count torch.int64 ()\n\x03" + bytes(7)
    assert weights_hash(weights) == hashlib.sha256(written + f"b {dtype} (1,)\n".encode() + ones).hexdigest()


def test_a_place_without_a_checkpoint_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"--start-from .*there is no checkpoint\. Give"):
        InitialWeights.find(experiment(start_from=str(tmp_path)), CLASSES, "nowhere")


def test_parts_without_a_checkpoint_and_a_start_without_training_are_refused(monkeypatch):
    with pytest.raises(UsageError, match=r"start_parts unet are parts of what"):
        experiment(start_parts=("unet",))
    monkeypatch.setattr(AVGNConfig, "trains", False)
    with pytest.raises(UsageError, match=r"start_from .* is not trained: leave it out"):
        experiment(start_from="/runs/a")
    assert InitialWeights.find(experiment(), CLASSES, "nowhere").description == "nothing: this model is not trained"


def test_a_model_only_has_to_say_how_it_is_built():
    class Config(ModelConfig):
        def build(self, num_classes: int) -> nn.Module:
            return nn.Linear(num_classes, 1)

    model = Config()
    Experiment(name="x", model=model, mixing=Mixing(min_sources=1, pictures_per_source=3))
    assert (model.fewest_mixtures, model.trains, model.start()) == (1, True, None)
    linear = model.build(3)
    (group,) = model.parameter_groups(linear)
    assert [id(p) for p in group.parameters] == [id(p) for p in linear.parameters()]


def test_a_model_without_weights_has_a_checkpoint(tmp_path):
    store = CheckpointStore(str(tmp_path))
    store.save(0, {"model": nn.Identity().state_dict()}, {}, keep=1)
    assert store.newest() == store.selected() == str(tmp_path / "step-00000000")
