"""Ideal masks separate what does not overlap, on a model's own grid or the common one; the best of them is known."""

import pytest
import torch
from torch import nn

from cocktail.audio.ideal_masks import (
    IDEAL_BINARY_MASK,
    IDEAL_PHASE_SENSITIVE_MASK,
    IDEAL_RATIO_MASK,
    IDEAL_WIENER_MASK,
    grid_of,
    ideal_separations,
)
from cocktail.audio.masks import (
    ideal_binary_mask,
    ideal_phase_sensitive_mask,
    ideal_ratio_mask,
    ideal_wiener_mask,
)
from cocktail.audio.mixing import mix
from cocktail.audio.stft import FrontEnd, FrontEndConfig, ShortTimeTransform
from cocktail.metrics.separation import si_sdr
from cocktail.models.tdcn import SMALL_TDCN
from tests.made.models.small_sgn import SMALL, tones

CPU = torch.device("cpu")
KINDS = (IDEAL_BINARY_MASK, IDEAL_RATIO_MASK, IDEAL_WIENER_MASK, IDEAL_PHASE_SENSITIVE_MASK)


def test_a_model_is_scored_on_its_own_grid_and_one_without_on_the_common_one():
    model = SMALL.build(5)
    assert grid_of(model, CPU) is model.front_end
    common = grid_of(nn.Identity(), CPU)
    assert isinstance(common, FrontEnd) and common.config == FrontEndConfig()
    linear = nn.Module()
    linear.front_end = ShortTimeTransform(254, 64)
    assert grid_of(linear, CPU) is linear.front_end


@pytest.mark.parametrize("model", [SMALL.build(5), nn.Identity(), SMALL_TDCN.build(5)])
@pytest.mark.parametrize("kind", KINDS)
def test_ideal_masks_separate_tones_that_do_not_overlap(model, kind):
    mixture, references = mix(tones([[0, 4]]))
    estimates = ideal_separations(grid_of(model, CPU), mixture, references)[kind].estimates
    error = (estimates - references[..., : estimates.shape[-1]])[..., 200:-200]
    assert error.square().mean() < 1e-2 * references.square().mean()
    assert (mixture[:, None] - references).square().mean() > 0.1 * references.square().mean()


def test_masks_by_hand():
    """Four places: in phase, a quarter of a turn apart, of opposite phase, and one source alone."""
    a = torch.tensor([3.0, 3.0, 3.0, 2.0], dtype=torch.complex64)
    b = torch.tensor([1.0, 4.0j, -1.0, 0.0], dtype=torch.complex64)
    sources = torch.stack([a, b])[None, :, None]
    mixture = sources.sum(dim=1, keepdim=True)  # magnitudes 4, 5, 2, 2
    magnitudes, magnitude = sources.abs(), mixture.abs()
    masks = {
        IDEAL_BINARY_MASK: ideal_binary_mask(magnitudes, magnitude),
        IDEAL_RATIO_MASK: ideal_ratio_mask(magnitudes, magnitude),
        IDEAL_WIENER_MASK: ideal_wiener_mask(magnitudes),
        IDEAL_PHASE_SENSITIVE_MASK: ideal_phase_sensitive_mask((sources * mixture.conj()).real, magnitude.square()),
    }
    expected = {
        IDEAL_BINARY_MASK: [[1, 1, 1, 1], [0, 1, 0, 0]],
        IDEAL_RATIO_MASK: [[3 / 4, 3 / 5, 1, 1], [1 / 4, 4 / 5, 1 / 2, 0]],
        IDEAL_WIENER_MASK: [[9 / 10, 9 / 25, 9 / 10, 1], [1 / 10, 16 / 25, 1 / 10, 0]],
        # |W_i| / |W| cos: 3/5 times 3/5, 4/5 times 4/5; beyond the mixture, and against it, it is cut.
        IDEAL_PHASE_SENSITIVE_MASK: [[3 / 4, 9 / 25, 1, 1], [1 / 4, 16 / 25, 0, 0]],
    }
    for name, mask in masks.items():
        torch.testing.assert_close(mask[0, :, 0], torch.tensor(expected[name], dtype=torch.float32), msg=name)


def test_silence_has_masks_of_numbers():
    nothing = torch.zeros(1, 2, 1, 3)
    for mask in (ideal_wiener_mask(nothing), ideal_phase_sensitive_mask(nothing, nothing[:, :1])):
        assert mask.eq(0).all()


def noises(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Two sources [1, 2, T] that overlap everywhere, and their sum [1, T]: noise of different colour, in bursts."""
    generator = torch.Generator().manual_seed(seed)
    T = 16384
    white = torch.fft.rfft(torch.randn(1, 2, T, generator=generator))
    slope = torch.linspace(0, 1, white.shape[-1])
    sources = torch.fft.irfft(white * torch.stack([1 - slope, slope]), n=T)
    bursts = torch.stack([torch.sin(torch.arange(T) / 900), torch.cos(torch.arange(T) / 400)]).square()
    sources = 0.2 * sources * bursts
    return sources, sources.sum(dim=1)


@pytest.mark.parametrize("seed", range(3))
def test_in_each_place_no_mask_in_range_leaves_less_error_than_the_phase_sensitive_one(seed):
    sources, mixture = noises(seed)
    front_end = FrontEnd(FrontEndConfig())
    transform, of_sources = front_end.stft(mixture)[:, None], front_end.stft(sources)
    best = ideal_phase_sensitive_mask((of_sources * transform.conj()).real, transform.abs().square())
    magnitudes, magnitude = of_sources.abs(), transform.abs()
    others = [
        *(ideal_binary_mask(magnitudes, magnitude), ideal_ratio_mask(magnitudes, magnitude)),
        *(ideal_wiener_mask(magnitudes), (best + 0.01).clamp(max=1), (best - 0.01).clamp(min=0)),
    ]
    least = (of_sources - best * transform).abs().square()
    for other in others:
        assert (least <= (of_sources - other * transform).abs().square() + 1e-6).all()


@pytest.mark.parametrize("seed", range(3))
def test_on_a_log_frequency_grid_the_phase_sensitive_mask_has_the_highest_si_sdr_and_the_least_error(seed):
    sources, mixture = noises(seed)
    separated = ideal_separations(FrontEnd(FrontEndConfig()), mixture, sources)
    scores = {name: si_sdr(sources, separated[name].estimates).mean().item() for name in KINDS}
    errors = {name: (separated[name].estimates - sources).square().mean().item() for name in KINDS}
    assert max(scores, key=lambda name: scores[name]) == IDEAL_PHASE_SENSITIVE_MASK, scores
    assert min(errors, key=lambda name: errors[name]) == IDEAL_PHASE_SENSITIVE_MASK, errors
    assert scores[IDEAL_PHASE_SENSITIVE_MASK] > scores[IDEAL_BINARY_MASK] + 0.5, scores
