"""MP-Net: the recursion by estimated energy, its losses, and what learns in each stage."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from cocktail.audio.mixing import mix
from cocktail.checkpoints.contents import require_built_without_values
from cocktail.config.settings import require_kept
from cocktail.config.training import Training
from cocktail.layers.masking import SOFT_MASKS, magnitudes_of
from cocktail.layers.spectrogram import log_spectrogram
from cocktail.losses.mask_loss import ideal_masks, loudness_weights
from cocktail.models.mp_net import SMALL_MP_NET, STAGES, MPNet, MPNetConfig
from cocktail.models.sound_of_pixels import SMALL_SOUND_OF_PIXELS, SoundOfPixelsConfig
from cocktail.train.update import make_optimizers
from cocktail.types import NO_CLASS, Localizer, Query, Separator
from tests.made.models.finite_differences import assert_gradients_are_differences, away_from_kinks
from tests.made.models.small_pixel_separators import MP_NET as SMALL
from tests.made.models.small_sound_of_pixels import MIXING, seen_and_heard

PARTS = ("visual_encoder", "unet", "mask_head"), ("plus_unet", "plus_head")
LOUD = seen_and_heard([[0, 3, 1], [2, 1, 4]])
BATCH = replace(LOUD, gains=torch.tensor([[0.5, 1.5, 1.0], [1.5, 1.0, 0.5]]))
ORDER = [[1, 2, 0], [0, 1, 2]]
"""Of true energy."""
assert BATCH.pictures is not None
PICTURES = BATCH.pictures


def built(**settings) -> MPNet:
    torch.manual_seed(0)
    model = replace(SMALL, **settings).build(5)
    with torch.no_grad():  # so that sounds and pictures are told apart before anything is learned
        model.visual_encoder.project.weight.mul_(3)
        model.mask_head.weight.mul_(30)
        model.plus_head.weight.mul_(30)
    return model.eval()


def heard(model: MPNet) -> tuple[Tensor, Tensor, Tensor]:
    """Transforms [B, F, M], magnitudes of mixtures [B, 1, R, M] and of sources [B, N, R, M]."""
    mixture, references = mix(BATCH)
    transform = model.front_end.stft(mixture)
    sources = model.front_end.warp(model.front_end.stft(references).abs())
    return transform, model.front_end.warp(transform.abs())[:, None], sources


def plainly(model: MPNet, order: list[list[int]] | None) -> tuple[Tensor, list[list[int]]]:
    """Magnitudes of the estimates [B, N, R, M] of the batch, mixture by mixture, by products and differences, and the
    order in which they were taken: the one that is given, or by estimated energy."""
    config = model.config
    transform, magnitude, _ = heard(model)
    vectors = model.visual_encoder.of_sources(PICTURES, BATCH.present)
    estimates, orders = [], []
    for b in range(2):
        left, taken = magnitude[[b]], torch.zeros_like(magnitude[[b]])
        found: dict[int, Tensor] = {}
        while len(found) < 3:
            features = model.unet(log_spectrogram(left, config.input_norm))
            masks = model.mask_head(features, vectors[[b]]).sigmoid()
            if order is None:
                on_bins = model.front_end.unwarp(masks * left / magnitude[[b]])
                energies = (on_bins * transform[b].abs()).square().mean(dim=(2, 3))[0].tolist()
                n = max((n for n in range(3) if n not in found), key=lambda n: energies[n])
            else:
                n = order[b][len(found)]
            minus = masks[:, [n]] * left
            plus = torch.zeros_like(minus)
            if found and config.stage != "minus":
                beside = left if config.plus_hears == "remainder" else minus
                spectrogram = log_spectrogram(torch.cat([beside, taken], dim=1), config.input_norm)
                plus = model.plus_head(model.plus_unet(spectrogram)).sigmoid() * taken
            found[n] = minus + plus
            left, taken = (left - minus).clamp(min=0), taken + minus
        estimates.append(torch.cat([found[n] for n in range(3)], dim=1))
        orders.append(list(found))
    return torch.cat(estimates), orders


@pytest.mark.parametrize("plus_hears", ["remainder", "estimate"])
@pytest.mark.parametrize("masks", ["binary", "ratio"])
@pytest.mark.parametrize("stage", STAGES)
@torch.no_grad()
def test_it_takes_the_loudest_out_of_what_remains(stage, masks, plus_hears):
    model = built(stage=stage, masks=masks, plus_hears=plus_hears)
    magnitude = heard(model)[1]
    expected, order = plainly(model, None)
    separation = model.separate(mix(BATCH)[0], Query.of(BATCH))
    assert separation.masks is not None
    assert separation.intermediates["order"].tolist() == order
    torch.testing.assert_close(separation.masks * magnitude, expected, rtol=1e-3, atol=1e-5)


def bins_by_true_energy(model: MPNet) -> Tensor:
    """Loss [B, N, R, M] of each bin of the batch, by estimates taken in the order of true energy."""
    _, magnitude, sources = heard(model)
    share = (plainly(model, ORDER)[0] / magnitude).clamp(1e-7, 1 - 1e-7)
    target = ideal_masks(sources, magnitude, model.config.masks)
    if model.config.masks == "binary":
        return -(target * share.log() + (1 - target) * (1 - share).log())
    return (share - target).abs()


@pytest.mark.parametrize("masks", ["binary", "ratio"])
@pytest.mark.parametrize("stage", ["minus", "joint"])
def test_the_loss_is_that_of_the_estimates_shares_of_the_mixture_taken_by_true_energy(stage, masks):
    model = built(stage=stage, masks=masks)
    loss = (loudness_weights(heard(model)[1]) * bins_by_true_energy(model)).mean()
    torch.testing.assert_close(model(BATCH)["total"], loss, rtol=1e-3, atol=1e-6)
    # By estimated energy the order is another here, and so is the loss.
    assert plainly(model, None)[1] != ORDER
    model.config = replace(model.config, training_order="estimated")
    assert not torch.allclose(model(BATCH)["total"], loss, rtol=1e-4)


@pytest.mark.parametrize("masks", ["binary", "ratio"])
def test_without_weights_all_bins_count_alike_in_the_loss(masks):
    weighted, plain = (built(stage="joint", masks=masks, weighted_loss=each) for each in (True, False))
    torch.testing.assert_close(plain(BATCH)["total"], bins_by_true_energy(plain).mean(), rtol=1e-3, atol=1e-6)
    assert not torch.allclose(plain(BATCH)["total"], weighted(BATCH)["total"], rtol=0.1)
    answers = (model.separate(mix(BATCH)[0], Query.of(BATCH)).estimates for model in (weighted, plain))
    assert torch.equal(*answers)


def test_no_magnitude_is_negative_and_no_more_is_taken_than_there_was():
    model = built()
    with torch.no_grad():
        model.mask_head.weight.mul_(100)  # masks of nearly all or nothing
        masks = model.separate(mix(BATCH)[0], Query.of(BATCH)).masks
    assert masks is not None
    assert masks.min() >= 0 and masks.max() <= 1 and masks.sum(dim=1).max() <= 1 + 1e-5
    assert (masks.sum(dim=1) > 0.999).float().mean() > 0.1
    # What is as good as gone still has a loss and a slope that are numbers.
    model(BATCH)["total"].backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_the_plus_net_gives_back_of_what_was_taken_before_and_never_to_the_first():
    minus = built()
    joint = built(stage="joint")
    joint.load_state_dict(minus.state_dict())
    plus = built(stage="plus")
    plus.load_state_dict(minus.state_dict())
    own, with_plus, both = (m.separate(mix(BATCH)[0], Query.of(BATCH)) for m in (minus, joint, plus))
    assert own.masks is not None and with_plus.masks is not None and both.masks is not None
    torch.testing.assert_close(both.masks, with_plus.masks)
    order = own.intermediates["order"]
    assert order.equal(with_plus.intermediates["order"])
    gained = (with_plus.masks - own.masks).flatten(2).gather(1, order[..., None].expand(-1, -1, 64 * 64))
    assert gained[:, 0].eq(0).all() and gained.min() >= -1e-6
    assert gained[:, 1:].amax(dim=2).min() > 0.01


def test_estimates_are_in_the_order_of_the_pictures():
    model = built(stage="joint")
    query = Query.of(BATCH)
    assert query.class_ids is not None
    own = model.separate(mix(BATCH)[0], query)
    assert own.class_ids.equal(query.class_ids) and list(own.alternatives) == [SOFT_MASKS]
    turned = replace(query, pictures=PICTURES.roll(1, 1), class_ids=query.class_ids.roll(1, 1))
    other = model.separate(mix(BATCH)[0], turned)
    torch.testing.assert_close(other.masks, own.masks.roll(1, 1) if own.masks is not None else None)
    torch.testing.assert_close(other.estimates, own.estimates.roll(1, 1))
    assert isinstance(model, Separator) and not isinstance(model, Localizer)


def test_sources_that_are_not_there_come_last_and_have_no_part():
    batch = seen_and_heard([[0, 3, 1], [2, NO_CLASS, NO_CLASS]])
    for stage in STAGES:
        model = built(stage=stage)
        separation = model.separate(mix(batch)[0], Query.of(batch))
        assert separation.masks is not None
        assert separation.intermediates["order"][1, 0] == 0
        assert separation.masks[1, 1:].eq(0).all()
        alone = model.separate(mix(batch)[0][1:], Query.of(batch.rows(1, 2)).rows(torch.tensor([0]), 1))
        torch.testing.assert_close(alone.masks, separation.masks[1:, :1])
        assert batch.pictures is not None
        noise = batch.pictures.clone()
        noise[1, 1:] = torch.randint(0, 256, noise.shape[3:])
        torch.testing.assert_close(model.train()(replace(batch, pictures=noise))["total"], model(batch)["total"])


@pytest.mark.parametrize("stage", STAGES)
def test_in_each_stage_its_parts_learn_and_the_others_stay_as_they_are(stage):
    model = built(stage=stage).train()
    learning = {"minus": PARTS[0], "plus": PARTS[1], "joint": PARTS[0] + PARTS[1]}[stage]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizers = make_optimizers(model, model.config.parameter_groups(model), Training())
    model(BATCH)["total"].backward()
    for optimizer in optimizers:
        optimizer.step()
    changed = {name for name, value in model.state_dict().items() if not value.equal(before[name])}
    of_learning = {name for name in before if name.startswith(tuple(f"{part}." for part in learning))}
    assert changed == of_learning


def test_one_batch_is_learned_by_heart():
    torch.manual_seed(0)
    batch = seen_and_heard([[0, 3], [2, 1], [4, 0], [1, 3]])
    model = replace(SMALL, stage="joint").build(5)
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    first = model(batch)["total"].item()
    loss = torch.tensor(first)
    for _ in range(40):
        loss = model(batch)["total"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert first > 0.05 and loss.item() < 0.005


def test_on_a_minus_net_that_stays_as_it_is_the_plus_net_learns_all_that_it_can_give_back():
    """All masks of this minus net are a half. Of two sources the first has half of the mixture, whose cross-entropy is
    ln 2 anywhere; the second a quarter, and up to half of the mixture more: where it is right, ln 4/3."""
    torch.manual_seed(0)
    batch = seen_and_heard([[0, 3], [2, 1], [4, 0], [1, 3]])
    model = replace(SMALL, stage="plus").build(5).train()
    torch.nn.init.zeros_(model.mask_head.weight)
    before = {name: value.clone() for name, value in model.state_dict().items() if name.startswith(PARTS[0])}
    weights = loudness_weights(magnitudes_of(model.front_end, batch)[0])
    least = (math.log(2) + math.log(4 / 3)) / 2 * weights.mean().item()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    first = model(batch)["total"].item()
    for _ in range(60):
        loss = model(batch)["total"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert all(value.equal(before[name]) for name, value in model.state_dict().items() if name in before)
    last = model.eval()(batch)["total"].item()
    assert first > 1.35 * least and least < last < 1.02 * least


@pytest.mark.parametrize("stage", ["minus", "plus"])
def test_gradients_are_differences(stage):
    """Of a first step, and of what a step gives back: none passes from a step to those before it."""
    model = built(stage=stage)
    away_from_kinks(model.double())
    magnitude, targets = torch.rand(2, 1, 64, 64, dtype=torch.float64), torch.rand(2, 3, 64, 64).double()
    N = 1 if stage == "minus" else 3

    def loss():
        vectors = model.visual_encoder.of_sources(PICTURES[:, :N], BATCH.present[:, :N])
        shares = model.take_apart(magnitude, vectors, BATCH.present[:, :N], torch.tensor(ORDER)[:, :N].clamp(max=N - 1))
        return -(targets[:, :N] * shares.log_shares + (1 - targets[:, :N]) * shares.log_rests).sum()

    assert_gradients_are_differences(loss, model.named_parameters())


def test_bfloat16_autocast_gives_the_loss_of_float32_to_its_precision():
    model = built(stage="joint")
    exact = model(BATCH)["total"]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = model(BATCH)["total"]
    rounded.backward()
    torch.testing.assert_close(rounded, exact, rtol=0.05, atol=0.0)


@pytest.mark.parametrize(
    ("ours", "theirs"), [(MPNetConfig(), SoundOfPixelsConfig()), (SMALL_MP_NET, SMALL_SOUND_OF_PIXELS)]
)
def test_the_minus_net_takes_the_weights_of_sound_of_pixels(ours, theirs):
    with torch.device("meta"):
        own, other = ours.build(5).state_dict(), theirs.build(5).state_dict()
    assert {name: value.shape for name, value in own.items() if name.startswith(PARTS[0])} == {
        name: value.shape for name, value in other.items()
    }


@pytest.mark.parametrize("config", [MPNetConfig(), replace(MPNetConfig(), stage="joint"), SMALL_MP_NET, SMALL])
def test_a_checkpoint_can_hold_it(config):
    require_kept(config, "model.")
    require_built_without_values(config, 5)
    assert config.start().modules == ("visual_encoder.resnet",)


def test_the_papers_network_is_sound_of_pixels_and_a_second_unet():
    """The paper states no size. A U-Net of 256 maps has 30,532,482 parameters (tests/layers), each map 9 x 128 and a
    bias; the second has one map, and two channels in: 16 x 64 weights and a BatchNorm more."""
    with torch.device("meta"):
        model, first = MPNetConfig().build(5), SoundOfPixelsConfig().build(5)
    second = 30_532_482 - 255 * (9 * 128 + 1) + 16 * 64 + 2
    assert sum(p.numel() for p in model.parameters()) == sum(p.numel() for p in first.parameters()) + second


def test_mixtures_that_it_can_be_tested_on():
    SMALL.require_mixing(MIXING)
    SMALL.require_test_mixing(replace(MIXING, num_sources=3, min_sources=1))
