"""Weights to start from: found, told, and refused if they are not what they should be."""

import pytest
import torch

from cocktail.layers.resnet import ResNet18
from cocktail.train.initial_weights import IMAGENET_FILE, InitialWeights, StartsFromPictures, load_initial
from cocktail.types import UsageError
from tests.made.small_avgn import SMALL


@pytest.fixture
def weights(tmp_path):
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


def test_auto_takes_what_torchvision_keeps_and_says_where_it_looked(tmp_path, monkeypatch, weights):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    kept_by_runs = str(tmp_path / "initial")
    absent = InitialWeights.find("auto", kept_by_runs)
    assert absent.data is absent.keep(kept_by_runs) is None
    places = f"{tmp_path}/torch/hub/checkpoints/{IMAGENET_FILE} nor at {tmp_path}/initial/{IMAGENET_FILE}"
    assert absent.told == f"random weights, as ImageNet's are neither at {places}"
    kept = tmp_path / "torch" / "hub" / "checkpoints" / IMAGENET_FILE
    kept.parent.mkdir(parents=True)
    kept.write_bytes(weights.read_bytes())
    found = InitialWeights.find("auto", kept_by_runs)
    assert found.data == weights.read_bytes()
    assert found.sha256 is not None
    assert found.told == f"{IMAGENET_FILE}, SHA-256 {found.sha256[:16]}"  # by its digits it is not ImageNet's
    assert InitialWeights.find("none", kept_by_runs) == InitialWeights.random()
    # A run keeps them, and goes on with them where torchvision no longer has them.
    assert found.keep(kept_by_runs) == f"{kept_by_runs}/{IMAGENET_FILE}"
    kept.unlink()
    assert InitialWeights.find("auto", kept_by_runs) == found


def test_the_encoder_starts_from_the_files_weights_and_nothing_else_does(weights):
    torch.manual_seed(0)
    model = SMALL.build(3)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert isinstance(model, StartsFromPictures)
    found = InitialWeights.find(str(weights), "nowhere")
    assert found.data is not None
    load_initial(model, found.data, str(weights))
    theirs = torch.load(weights, weights_only=True)
    for name, value in model.state_dict().items():
        own = name.removeprefix("visual_encoder.resnet.")
        torch.testing.assert_close(value, theirs[own] if own != name else before[name], rtol=0, atol=0)


@pytest.mark.parametrize("content", [b"", b"no weights", "larger"])
def test_a_file_of_anything_else_is_refused(tmp_path, content):
    path = tmp_path / "weights.pth"
    if content == "larger":
        torch.save(ResNet18(width=16).state_dict(), path)
    else:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=r"does not hold torchvision's weights of this model's ResNet-18"):
        load_initial(SMALL.build(3), path.read_bytes(), str(path))


def test_a_file_that_is_not_there_is_told_with_what_to_give(tmp_path):
    with pytest.raises(UsageError, match=r"no weights at .*: give torchvision's file of ResNet-18"):
        InitialWeights.find(str(tmp_path / "absent.pth"), "nowhere")
