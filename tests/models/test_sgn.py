"""SGN's shapes, losses and gradients, on a small network."""

import pytest
import torch
from torch.nn import functional as F

from cocktail.audio.mixing import mix
from cocktail.audio.stft import FrontEndConfig
from cocktail.models.sgn import SGN, SGNConfig
from cocktail.types import Query, Separator
from tests.made.models.small_sgn import SMALL, tones


@pytest.fixture
def model() -> SGN:
    torch.manual_seed(0)
    return SMALL.build(5)


def test_it_is_a_separator(model):
    assert isinstance(model, Separator)


def test_losses_are_the_papers_with_means_for_sums(model):
    batch = tones([[0, 3], [2, 1]])
    losses = model(batch)
    mixture, references = mix(batch)
    magnitude = model.front_end.warp(model.front_end.stft(mixture).abs())[:, None]
    sources = model.front_end.warp(model.front_end.stft(references).abs())
    prediction = model.predict(magnitude)
    weight = torch.log(1 + magnitude).clamp(1e-3, 10)
    probability = model.mask_logits(prediction, batch.class_ids).sigmoid()
    target = (sources > 0.5 * magnitude).float()
    bins = -weight * (target * probability.log() + (1 - target) * (1 - probability).log())
    torch.testing.assert_close(losses["reconstruction"], bins[:, 0].mean() + bins[:, 1].mean(), rtol=1e-4, atol=1e-5)
    present = torch.tensor([[1.0, 0, 0, 1, 0], [0, 1, 1, 0, 0]])
    expected = F.binary_cross_entropy(prediction.presence_logits.sigmoid(), present)
    torch.testing.assert_close(losses["presence"], expected)
    classified = model.token_classifier(model.branch.class_tokens).log_softmax(-1)
    torch.testing.assert_close(losses["token"], -classified.diagonal().mean())
    torch.testing.assert_close(losses["total"], losses["reconstruction"] + losses["token"] + losses["presence"])


def test_every_parameter_that_learns_gets_a_gradient(model):
    model(tones([[0, 3], [2, 1]]))["total"].backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    # A bias just before BatchNorm would be one; there is none. These cancel out of the softmax over classes.
    assert without == ["branch.grouping.token_norm.bias", "branch.grouping.key.bias"]


def test_bfloat16_autocast_gives_the_losses_of_float32_to_its_precision(model):
    batch = tones([[0, 3], [2, 1]])
    exact = model(batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = model(batch)
    rounded["total"].backward()
    for name, loss in exact.items():
        torch.testing.assert_close(rounded[name], loss, rtol=0.02, atol=0.0)
    assert all(parameter.grad is not None for parameter in model.parameters() if parameter.requires_grad)


def test_the_front_end_is_not_in_checkpoints(model):
    assert not any(name.startswith("front_end") for name in model.state_dict())


def test_estimates_follow_the_order_of_the_classes(model):
    model.eval()
    mixture, _ = mix(tones([[0, 3]]))
    forward = model.separate(mixture, Query.naming(torch.tensor([[0, 3]])))
    swapped = model.separate(mixture, Query.naming(torch.tensor([[3, 0]])))
    assert forward.estimates.shape == (1, 2, 63 * 64)
    torch.testing.assert_close(forward.estimates, swapped.estimates.flip(1))
    torch.testing.assert_close(forward.masks, swapped.masks.flip(1))


def test_any_number_of_sources_is_separated(model):
    mixture, _ = mix(tones([[0, 3, 4]]))
    separation = model.eval().separate(mixture, Query.naming(torch.tensor([[0, 3, 4]])))
    assert separation.masks.shape == (1, 3, 64, 64)
    assert separation.intermediates["assignment"].shape == (1, 16, 5)
    assert separation.intermediates["presence"].shape == (1, 5)
    torch.testing.assert_close(model.presence(mixture), separation.intermediates["presence"])


def test_one_batch_is_overfitted_to_a_reconstruction_loss_below_a_hundredth(model):
    batch = tones([[0, 3], [2, 1], [4, 0], [1, 3]])
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    first = model(batch)["reconstruction"].item()
    for _ in range(200):
        losses = model(batch)
        optimizer.zero_grad()
        losses["total"].backward()
        optimizer.step()
    assert first > 0.25
    assert losses["reconstruction"].item() < 0.01
    assert losses["token"].item() < 0.1


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="patch_size"):
        SGNConfig(patch_size=24)
    with pytest.raises(ValueError, match="no power of two"):
        SGNConfig(patch_size=24, patch_embedding="convolutions", front_end=FrontEndConfig(num_rows=384), num_frames=384)
    with pytest.raises(ValueError, match="unet_depth"):
        SGNConfig(unet_depth=9)
