"""What is not seen is what is left of a mixture without what is (AVSA-Sep eq. 3)."""

from dataclasses import replace

import pytest
import torch

from cocktail.audio.stft import ShortTimeTransform
from cocktail.layers.masking import (
    BY_SUBTRACTED_MAGNITUDES,
    BY_SUBTRACTION,
    SOFT_MASKS,
    separation_by_masks,
)
from cocktail.models.sound_of_pixels import SoundOfPixelsConfig

RATIO = SoundOfPixelsConfig(masks="ratio")
GRID = ShortTimeTransform(254, 64)


def separated(mixture, masks, seen, config=RATIO):
    """The answer of masks [1, N, F, M] of which some are of sources that are seen, bool [N]."""
    class_ids = torch.arange(masks.shape[1])[None]
    shown = torch.tensor([seen])
    transform = GRID.stft(mixture)
    return separation_by_masks(config, GRID, transform, masks * shown[..., None, None], class_ids, {}, shown, ~shown)


@pytest.fixture
def scene():
    """A mixture of three sources that are parts of it, bin by bin, with their masks."""
    torch.manual_seed(0)
    mixture = 0.2 * torch.randn(1, 64 * 40)
    shares = torch.rand(1, 3, GRID.num_bins, 41)
    masks = shares / shares.sum(dim=1, keepdim=True)
    return mixture, masks, GRID.istft(GRID.stft(mixture)[:, None] * masks)


@pytest.mark.parametrize("unseen", [0, 1, 2])
def test_with_true_estimates_of_the_others_it_is_the_true_source(scene, unseen):
    mixture, masks, sources = scene
    answer = separated(mixture, masks, [n != unseen for n in range(3)])
    for name in (BY_SUBTRACTION, BY_SUBTRACTED_MAGNITUDES):
        torch.testing.assert_close(answer.alternatives[name].estimates, sources, rtol=0, atol=1e-6)
    assert answer.estimates[0, unseen].eq(0).all() and SOFT_MASKS not in answer.alternatives


def test_of_two_that_are_not_seen_both_are_all_that_is_left(scene):
    mixture, masks, sources = scene
    left = separated(mixture, masks, [True, False, False]).alternatives[BY_SUBTRACTION].estimates
    torch.testing.assert_close(left[:, 1], sources[:, 1:].sum(dim=1), rtol=0, atol=1e-6)
    assert left[:, 2].equal(left[:, 1]) and left[:, 0].equal(sources[:, 0])


def test_waveforms_may_be_less_than_nothing_and_magnitudes_not(scene):
    mixture, masks, _ = scene
    whole = torch.ones_like(masks)
    answer = separated(mixture, whole, [True, True, False])
    exact = GRID.istft(GRID.stft(mixture))
    torch.testing.assert_close(answer.alternatives[BY_SUBTRACTION].estimates[:, 2], -exact, rtol=0, atol=1e-6)
    assert answer.alternatives[BY_SUBTRACTED_MAGNITUDES].estimates[:, 2].eq(0).all()


def test_binary_masks_are_subtracted_as_they_are_used(scene):
    mixture, masks, _ = scene
    answer = separated(mixture, masks, [True, True, False], replace(RATIO, masks="binary"))
    assert list(answer.alternatives) == [SOFT_MASKS, BY_SUBTRACTION, BY_SUBTRACTED_MAGNITUDES]
    rest = GRID.istft(GRID.stft(mixture)) - answer.estimates[:, :2].sum(dim=1)
    torch.testing.assert_close(answer.alternatives[BY_SUBTRACTION].estimates[:, 2], rest, rtol=0, atol=1e-6)


@pytest.mark.parametrize("seen", [[True, True, True], [False, False, False]])
def test_there_is_nothing_to_subtract_where_all_or_none_are_seen(scene, seen):
    mixture, masks, _ = scene
    assert not separated(mixture, masks, seen).alternatives
