"""The thresholded logarithm of the squared error, by hand."""

import math

import pytest
import torch

from cocktail.losses.thresholded import pairwise_thresholded_log_mse

SIGNAL = torch.tensor([3.0, 4.0, 0.0, 0.0])  # power 25
OTHER = torch.tensor([0.0, 0.0, 0.0, 2.0])
SILENCE = torch.zeros(4)


def loss(estimate: torch.Tensor, reference: torch.Tensor, mixture: torch.Tensor) -> float:
    return pairwise_thresholded_log_mse(estimate[None, None], reference[None, None], mixture[None]).item()


def test_an_active_source_is_capped_at_30_db():
    assert loss(SIGNAL, SIGNAL, SIGNAL) == pytest.approx(10 * math.log10(0.025), abs=1e-5)
    # 30 dB off: error and threshold are alike, 3 dB above the best.
    off = SIGNAL * (1 + 10**-1.5)
    assert loss(off, SIGNAL, SIGNAL) == pytest.approx(10 * math.log10(0.05), abs=1e-4)
    assert loss(SILENCE, SIGNAL, SIGNAL) == pytest.approx(10 * math.log10(25.025), abs=1e-5)
    assert loss(OTHER, SIGNAL, SIGNAL) == pytest.approx(10 * math.log10(29.025), abs=1e-5)


def test_a_silent_source_is_capped_20_db_below_the_mixture():
    assert loss(SILENCE, SILENCE, SIGNAL) == pytest.approx(10 * math.log10(0.25), abs=1e-5)
    assert loss(0.1 * SIGNAL, SILENCE, SIGNAL) == pytest.approx(10 * math.log10(0.5), abs=1e-5)
    assert loss(OTHER, SILENCE, SIGNAL) == pytest.approx(10 * math.log10(4.25), abs=1e-5)


def test_the_mixture_plays_no_part_for_active_sources():
    assert loss(OTHER, SIGNAL, SIGNAL) == loss(OTHER, SIGNAL, 100 * SIGNAL)


def test_silence_in_silence_is_minus_80_db():
    assert loss(SILENCE, SILENCE, SILENCE) == pytest.approx(-80)


def test_a_source_below_the_least_level_is_silent():
    faint = torch.full((4,), 0.9e-8)
    assert loss(OTHER, faint, SIGNAL) == loss(OTHER, SILENCE, SIGNAL)
    assert loss(OTHER, torch.full((4,), 1.1e-8), SIGNAL) == pytest.approx(10 * math.log10(4), abs=1e-5)


def test_pairs_are_every_estimate_with_every_reference():
    torch.manual_seed(0)
    estimates, references, mixture = torch.randn(2, 3, 50), torch.randn(2, 4, 50), torch.randn(2, 50)
    references[0, 2:] = 0
    pairs = pairwise_thresholded_log_mse(estimates, references, mixture)
    assert pairs.shape == (2, 3, 4)
    for b in range(2):
        expected = [[loss(e, r, m) for r in references[b]] for e, m in zip(estimates[b], mixture[[b] * 3], strict=True)]
        torch.testing.assert_close(pairs[b], torch.tensor(expected))


def test_limits_are_settings_each_of_its_own_kind_of_source():
    def of(estimate: torch.Tensor, reference: torch.Tensor, **limits: float) -> float:
        each = (estimate[None, None], reference[None, None], SIGNAL[None])
        return pairwise_thresholded_log_mse(*each, **limits).item()

    assert of(SIGNAL, SIGNAL, active_limit_db=40.0) == pytest.approx(of(SIGNAL, SIGNAL) - 10, abs=1e-4)
    assert of(SIGNAL, SIGNAL, silent_limit_db=40.0) == of(SIGNAL, SIGNAL)
    # Of silence: an estimate of power 4, and a share of the mixture's 25.
    for limit_db, floor in ((10.0, 2.5), (20.0, 0.25), (40.0, 0.0025)):
        found = of(OTHER, SILENCE, silent_limit_db=limit_db)
        assert found == pytest.approx(10 * math.log10(4 + floor), abs=1e-5)
        assert of(SILENCE, SILENCE, silent_limit_db=limit_db) == pytest.approx(10 * math.log10(floor), abs=1e-4)
        assert of(OTHER, SILENCE, silent_limit_db=limit_db, active_limit_db=60.0) == found


def test_gradients_are_finite_everywhere_also_where_all_is_silent():
    estimates = torch.zeros(1, 2, 4, requires_grad=True)
    references = torch.stack([SIGNAL, SILENCE])[None]
    for mixture in (SIGNAL, SILENCE):
        pairwise_thresholded_log_mse(estimates, references, mixture[None]).sum().backward()
        assert estimates.grad is not None and estimates.grad.isfinite().all()


def test_gradients_are_those_of_finite_differences():
    torch.manual_seed(0)
    estimates = torch.randn(1, 2, 6, dtype=torch.float64, requires_grad=True)
    references = torch.randn(1, 2, 6, dtype=torch.float64) * torch.tensor([1.0, 0.0])[None, :, None]
    mixture = references.sum(1)
    assert torch.autograd.gradcheck(lambda x: pairwise_thresholded_log_mse(x, references, mixture), estimates)
