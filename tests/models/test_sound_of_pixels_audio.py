"""Sound of Pixels without its eyes: outputs in the best order, or in the order of the sources."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch

from cocktail.audio.mixing import mix
from cocktail.checkpoints.contents import require_built_without_values
from cocktail.config.settings import require_kept
from cocktail.layers.masking import SOFT_MASKS
from cocktail.losses.mask_loss import absolute_mask_loss, ideal_masks, loudness_weights, mask_loss
from cocktail.models.sound_of_pixels_audio import (
    SMALL_SOUND_OF_PIXELS_AUDIO,
    SoundOfPixelsAudio,
    SoundOfPixelsAudioConfig,
)
from cocktail.types import NO_CLASS, Localizer, Query, Separator, UsageError
from tests.made.models.finite_differences import assert_gradients_are_differences, away_from_kinks
from tests.made.models.small_sgn import tones
from tests.made.models.small_sound_of_pixels import MIXING
from tests.made.models.small_sound_of_pixels import SMALL as WITH_EYES

SMALL = SoundOfPixelsAudioConfig(
    unet_width=4, unet_depth=5, conv_init_std=0.02, input_norm="mixture", front_end=WITH_EYES.front_end
)
BATCH = tones([[0, 3], [2, 1]])


@pytest.fixture
def model() -> SoundOfPixelsAudio:
    torch.manual_seed(0)
    model = SMALL.build(5)
    with torch.no_grad():
        model.head.weight.mul_(30)
    return model


def heard(model: SoundOfPixelsAudio, batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Magnitudes of mixtures [B, 1, R, M] and of sources [B, N, R, M]."""
    mixture, references = mix(batch)
    return (
        model.front_end.warp(model.front_end.stft(mixture).abs())[:, None],
        model.front_end.warp(model.front_end.stft(references).abs()),
    )


def test_it_separates_and_names_nothing(model):
    separation = model.eval().separate(mix(BATCH)[0], Query.of(BATCH))
    assert isinstance(model, Separator) and not isinstance(model, Localizer)
    assert separation.class_ids.eq(NO_CLASS).all() and separation.estimates.shape == (2, 2, 63 * 64)
    assert list(separation.alternatives) == [SOFT_MASKS]


@pytest.mark.parametrize("masks", ["binary", "ratio"])
@pytest.mark.parametrize("outputs", [2, 3])
def test_the_loss_is_the_least_of_all_orders_or_that_of_the_order_given(outputs, masks):
    torch.manual_seed(0)
    batch = tones([[0, 3, 1][:outputs], [2, 1, 4][:outputs]])
    config = replace(SMALL, outputs=outputs, masks=masks)
    model = config.build(5).eval()
    with torch.no_grad():
        model.head.weight.mul_(30)
    magnitude, sources = heard(model, batch)
    targets, logits = ideal_masks(sources, magnitude, masks), model.mask_logits(magnitude)
    loss_of = mask_loss if masks == "binary" else absolute_mask_loss

    def in_order(order):
        return loss_of(logits[:, order], targets, loudness_weights(magnitude)).mean(dim=1)

    orders = torch.stack([in_order(list(order)) for order in itertools.permutations(range(outputs))])
    assert orders.std(dim=0).min() > 0
    torch.testing.assert_close(model(batch)["total"], orders.amin(dim=0).mean())
    model.config = replace(config, pit=False)
    torch.testing.assert_close(model(batch)["total"], orders[0].mean())


@pytest.mark.parametrize("masks", ["binary", "ratio"])
@pytest.mark.parametrize("pit", [True, False])
def test_without_weights_all_bins_count_alike_in_the_loss(model, pit, masks):
    model.eval()
    batch = replace(BATCH, sources=BATCH.sources.flip(1), class_ids=BATCH.class_ids.flip(1))
    magnitude, sources = heard(model, batch)
    target, masks_of_outputs = ideal_masks(sources, magnitude, masks), model.mask_logits(magnitude).sigmoid()

    def in_order(order):
        mask = masks_of_outputs[:, order]
        bins = -torch.where(target > 0, mask, 1 - mask).log() if masks == "binary" else (mask - target).abs()
        return bins.mean(dim=(1, 2, 3))

    given, best = in_order([0, 1]), in_order([1, 0])
    assert (given > best).all()
    model.config = replace(SMALL, masks=masks, pit=pit)
    weighted = model(batch)["total"]
    model.config = replace(model.config, weighted_loss=False)
    plain = model(batch)["total"]
    torch.testing.assert_close(plain, (best if pit else given).mean())
    assert not torch.allclose(plain, weighted, rtol=0.1)


@pytest.mark.parametrize("pit", [True, False])
def test_only_with_pit_the_order_of_the_sources_does_not_matter(model, pit):
    model.config = replace(SMALL, pit=pit)
    model.eval()
    turned = replace(BATCH, sources=BATCH.sources.flip(1), class_ids=BATCH.class_ids.flip(1))
    assert torch.allclose(model(BATCH)["total"], model(turned)["total"], rtol=1e-6) == pit


def test_one_batch_is_learned_by_heart(model):
    torch.manual_seed(0)
    model = SMALL.build(5)
    batch = tones([[0, 3], [2, 1], [4, 0], [1, 3]])
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    first = model(batch)["total"].item()
    loss = torch.tensor(first)
    for _ in range(100):
        loss = model(batch)["total"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert first > 0.05 and loss.item() < 0.01


def test_gradients_are_differences(model):
    away_from_kinks(model.double().eval())
    magnitude, targets = torch.rand(2, 1, 64, 64, dtype=torch.float64), torch.rand(2, 2, 64, 64).double()

    def loss():
        return (model.mask_logits(magnitude).sigmoid() - targets).square().sum()

    assert_gradients_are_differences(loss, model.named_parameters())


def test_every_parameter_learns(model):
    model(BATCH)["total"].backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


def test_bfloat16_autocast_gives_the_loss_of_float32_to_its_precision(model):
    exact = model(BATCH)["total"]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = model(BATCH)["total"]
    torch.testing.assert_close(rounded, exact, rtol=0.02, atol=0.0)


@pytest.mark.parametrize("pit", [True, False])
def test_of_mixtures_with_fewer_sources_the_masks_that_fit_best_learn_and_the_others_cost_nothing(pit):
    torch.manual_seed(0)
    model = replace(SMALL, outputs=3, pit=pit).build(5).eval()
    with torch.no_grad():
        model.head.weight.mul_(30)
    batch = tones([[0, 3, 1], [2, 1, NO_CLASS]])
    batch.present[1, 2] = False
    batch.sources[1, 2] = 0
    magnitude, sources = heard(model, batch)
    targets, logits = ideal_masks(sources, magnitude, "binary"), model.mask_logits(magnitude)
    expected = []
    for b, count in enumerate((3, 2)):
        orders = list(itertools.permutations(range(3), count)) if pit else [tuple(range(count))]
        weights = loudness_weights(magnitude[b : b + 1])
        losses = [mask_loss(logits[b : b + 1, order], targets[b : b + 1, :count], weights).mean() for order in orders]
        expected.append(torch.stack(losses).min())
    torch.testing.assert_close(model(batch)["total"], torch.stack(expected).mean())
    separation = model.separate(mix(batch)[0], Query.of(batch))
    assert separation.estimates.shape[1] == 3 and separation.class_ids.eq(NO_CLASS).all()


def test_more_sources_than_masks_are_refused_and_masks_that_no_mixture_would_teach(model):
    for mixing in (replace(MIXING, num_sources=3), replace(MIXING, num_sources=3, min_sources=2)):
        with pytest.raises(UsageError, match=r"up to 3 sources, model\.outputs is 2: raise it"):
            SMALL.require_test_mixing(mixing)
    three = replace(SMALL, outputs=3)
    three.require_mixing(replace(MIXING, num_sources=3, min_sources=2))
    three.require_test_mixing(MIXING)
    with pytest.raises(UsageError, match=r"2 sources at most, model\.outputs is 3: lower it"):
        three.require_mixing(MIXING)
    # Sources of any class, of several or of none are as good, and nothing is seen.
    SMALL.require_mixing(replace(MIXING, pictures_per_source=0, distinct_classes=False))
    batch = tones([[0, 3, 1]])
    with pytest.raises(UsageError, match="separates 2 sources, and 3 are asked for"):
        model.separate(mix(batch)[0], Query.of(batch))
    with pytest.raises(UsageError, match="at least 2"):
        SoundOfPixelsAudioConfig(outputs=1)


@pytest.mark.parametrize("config", [SoundOfPixelsAudioConfig(), SMALL_SOUND_OF_PIXELS_AUDIO, SMALL])
def test_a_checkpoint_can_hold_it(config):
    require_kept(config, "model.")
    require_built_without_values(config, 5)


def test_the_papers_network_is_the_unet_with_a_map_an_output():
    """The U-Net with 256 maps has 30,532,482 parameters (tests/layers); each map has 9 x 128 weights and a bias."""
    with torch.device("meta"):
        model = SoundOfPixelsAudioConfig().build(5)
    assert sum(p.numel() for p in model.parameters()) == 30_532_482 - 254 * (9 * 128 + 1)
