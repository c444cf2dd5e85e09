"""Losses of waveforms, against the scores of the evaluation, hand calculation and finite differences."""

import itertools
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from cocktail.audio.mixing import mix
from cocktail.losses.waveform import (
    PAIRWISE,
    WaveformLoss,
    by_class,
    pairwise_l1,
    pairwise_mse,
    pairwise_si_sdr_loss,
    separation_loss,
)
from cocktail.metrics.separation import si_sdr, si_sdr_pairs
from cocktail.types import NO_CLASS, MixtureBatch
from tests.made.models.small_sgn import tones

PAIRS, SOME = tones([[0, 3], [2, 1]]), tones([[0, 3, 1], [2, NO_CLASS, NO_CLASS]])
SOME = replace(SOME, sources=SOME.sources * SOME.present[..., None])


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


def distance(loss: WaveformLoss, estimate: torch.Tensor, reference: torch.Tensor) -> float:
    if loss == "si_sdr":
        return -si_sdr(reference, estimate).item() if reference.abs().sum() > 0 else 0.0
    return ((estimate - reference).square() if loss == "mse" else (estimate - reference).abs()).mean().item()


def outputs_for(batch: MixtureBatch, K: int) -> torch.Tensor:
    """Outputs [B, K, T]: the mixture at several levels, with noise of their own."""
    mixture = mix(batch)[0]
    return torch.linspace(0.9, 0.1, K).roll(1)[:, None] * (mixture[:, None] + 0.3 * noise(K, mixture.shape[1]).float())


@pytest.mark.parametrize("loss", PAIRWISE)
@pytest.mark.parametrize(("batch", "K"), [(PAIRS, 2), (PAIRS, 3), (SOME, 3), (SOME, 4)])
def test_anonymous_sources_are_learned_in_the_best_of_all_orders(loss, batch, K):
    _, references = mix(batch)
    expected = []
    for outputs, sources, present in zip(outputs_for(batch, K), references, batch.present, strict=True):
        sources = torch.cat([sources, torch.zeros(K - len(sources), sources.shape[1])])
        sums = [
            sum(distance(loss, outputs[k], source) for k, source in zip(order, sources, strict=True))
            for order in itertools.permutations(range(K))
        ]
        expected.append(min(sums) / (int(present.sum()) if loss == "si_sdr" else K))
    total = separation_loss(loss, outputs_for(batch, K), references, batch, stems=False)
    assert total.item() == pytest.approx(sum(expected) / len(expected), rel=1e-3)


def test_si_sdr_of_a_mixture_is_the_mean_over_the_sources_that_sound():
    _, references = mix(PAIRS)
    references[:, 1] = 0
    outputs = outputs_for(PAIRS, 2)
    alone = replace(PAIRS, present=torch.tensor([[True, False]]).expand(len(PAIRS), -1))
    of_silent, of_absent = (
        separation_loss("si_sdr", outputs, references, batch, stems=False) for batch in (PAIRS, alone)
    )
    torch.testing.assert_close(of_silent, of_absent)
    assert separation_loss("si_sdr", outputs, 0 * references, PAIRS, stems=False) == 0


@pytest.mark.parametrize("loss", PAIRWISE)
def test_stems_are_learned_by_class_and_absent_ones_as_silence_where_the_loss_knows_it(loss):
    _, references = mix(SOME)
    outputs = outputs_for(SOME, 5)
    expected = []
    for b, class_ids in enumerate(SOME.class_ids.tolist()):
        stems = {class_id: references[b, n] for n, class_id in enumerate(class_ids) if class_id >= 0}
        each = [distance(loss, outputs[b, c], stems.get(c, torch.zeros_like(outputs[b, c]))) for c in range(5)]
        expected.append(sum(each) / (len(stems) if loss == "si_sdr" else 5))
    total = separation_loss(loss, outputs, references, SOME, stems=True)
    assert total.item() == pytest.approx(sum(expected) / len(expected), rel=1e-3)


def test_each_class_has_its_reference_and_the_others_silence():
    _, references = mix(SOME)
    targets = by_class(references, SOME.class_ids, 4)
    assert targets[0, [0, 3, 1]].equal(references[0]) and targets[1, 2].equal(references[1, 0])
    assert targets[0, 2].eq(0).all() and targets[1, [0, 1, 3]].eq(0).all()
