"""Losses of waveforms, against the scores of the evaluation, hand calculation and finite differences."""

import pytest
import torch
from torch.nn import functional as F

from cocktail.losses.waveform import PAIRWISE, pairwise_l1, pairwise_mse, pairwise_si_sdr_loss
from cocktail.metrics.separation import si_sdr_pairs


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_si_sdr_losses_are_the_evaluations_scores_with_their_sign_turned():
    references = noise(3, 2, 500)
    estimates = torch.cat([references + 0.3 * noise(3, 2, 500, seed=1), noise(3, 1, 500, seed=2)], dim=1)
    expected = -si_sdr_pairs(references, estimates)
    losses = pairwise_si_sdr_loss(estimates, references)
    near = expected.abs() < 20  # the bound at 80 dB is felt where a score is far off
    assert near.sum() >= 6
    torch.testing.assert_close(losses[near], expected[near], rtol=0, atol=1e-5)
    torch.testing.assert_close(losses, expected, rtol=0, atol=0.1)
    in_float32 = pairwise_si_sdr_loss(estimates.float(), references.float())
    assert in_float32.dtype == torch.float32
    torch.testing.assert_close(in_float32, losses.float(), rtol=0, atol=1e-4)


def test_si_sdr_of_a_case_by_hand():
    reference, estimate = torch.tensor([[[1.0, -1, 1, -1]]]), torch.tensor([[[2.0, -2, 2, 0]]])
    loss = pairwise_si_sdr_loss(estimate, reference)  # a = 1.5, |a s|^2 = 9, the rest 3
    torch.testing.assert_close(loss, torch.tensor([[[-4.7712]]]), rtol=0, atol=1e-4)
    torch.testing.assert_close(pairwise_mse(estimate, reference), torch.tensor([[[1.0]]]))
    torch.testing.assert_close(pairwise_l1(estimate, reference), torch.tensor([[[1.0]]]))


def test_level_and_sign_play_no_part_in_si_sdr():
    references, estimates = noise(2, 2, 300), noise(2, 2, 300) + noise(2, 2, 300, seed=1)
    expected = pairwise_si_sdr_loss(estimates, references)
    for gain in (-1.0, 100.0, 0.1):
        torch.testing.assert_close(pairwise_si_sdr_loss(gain * estimates, references), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("gain", [1.0, 1e-3, 1e3])
def test_si_sdr_losses_stay_within_80_db(gain):
    reference = noise(1, 1, 100)
    orthogonal = reference.roll(1, dims=-1) - reference * (reference.roll(1, dims=-1) * reference).sum() / (
        reference.square().sum()
    )
    assert pairwise_si_sdr_loss(gain * reference, reference).item() == pytest.approx(-80, abs=0.5)
    assert pairwise_si_sdr_loss(gain * orthogonal, reference).item() == pytest.approx(80, abs=0.01)


@pytest.mark.parametrize("level", [0.0, 1e-20, 1e-6, 1.0])
def test_silence_and_what_is_near_it_have_losses_and_gradients_that_are_numbers(level):
    references = torch.stack([torch.zeros(64), torch.randn(64, generator=torch.Generator().manual_seed(0))])[None]
    for name, pairwise in PAIRWISE.items():
        estimates = (level * torch.ones(1, 2, 64)).requires_grad_()
        losses = pairwise(estimates, references)
        losses.sum().backward()
        assert losses.isfinite().all(), name
        assert estimates.grad is not None and estimates.grad.isfinite().all(), name
        if name == "si_sdr":
            assert losses[..., 0].eq(0).all()


def test_of_a_silent_source_si_sdr_says_nothing_and_the_others_ask_for_silence():
    estimates = torch.ones(1, 1, 10, requires_grad=True)
    silence = torch.zeros(1, 1, 10)
    loss = pairwise_si_sdr_loss(estimates, silence)
    loss.sum().backward()
    assert loss.item() == 0 and estimates.grad is not None and estimates.grad.eq(0).all()
    assert pairwise_mse(2 * estimates, silence).item() == pytest.approx(4)
    assert pairwise_l1(2 * estimates, silence).item() == pytest.approx(2)


def test_mse_and_l1_are_each_estimate_with_each_source():
    estimates, references = noise(2, 3, 50).float(), noise(2, 2, 50, seed=1).float()
    for b in range(2):
        for k in range(3):
            for n in range(2):
                pair = estimates[b, k], references[b, n]
                torch.testing.assert_close(pairwise_mse(estimates, references)[b, k, n], F.mse_loss(*pair))
                torch.testing.assert_close(pairwise_l1(estimates, references)[b, k, n], F.l1_loss(*pair))


def test_a_squared_error_far_below_the_waveforms_keeps_its_digits():
    reference = noise(1, 1, 65535).float()
    error = 1e-4 * noise(1, 1, 65535, seed=1).float()
    estimate = reference + error
    expected = (estimate.double() - reference.double()).square().mean()
    assert pairwise_mse(estimate, reference).item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("name", PAIRWISE)
def test_gradients_are_those_of_finite_differences(name):
    estimates, references = noise(2, 3, 7).requires_grad_(), noise(2, 2, 7, seed=1)
    assert torch.autograd.gradcheck(lambda x: PAIRWISE[name](x, references), estimates)


@pytest.mark.parametrize("name", PAIRWISE)
def test_under_autocast_nothing_is_rounded(name):
    estimates, references = noise(2, 2, 200).float(), noise(2, 2, 200, seed=1).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = PAIRWISE[name](estimates, references)
    assert losses.equal(PAIRWISE[name](estimates, references))
    assert PAIRWISE[name](estimates.bfloat16(), references).dtype == torch.float32
