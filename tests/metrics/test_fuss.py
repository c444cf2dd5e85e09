"""The FUSS rule by hand, on signals that are orthogonal, so that powers and cosines are what they are made to be."""

import itertools

import numpy as np
import pytest
import torch
from scipy.linalg import hadamard
from torch import Tensor

from cocktail.metrics.fuss import floored_si_sdr_pairs, fuss_scores

AXES = torch.tensor(hadamard(8), dtype=torch.float64)
"""Eight orthogonal signals of power one."""


def signals(*powers: float) -> Tensor:
    """Signal i has the given power on axis i: [1, N, 8]."""
    return (torch.tensor(powers, dtype=torch.float64).sqrt()[:, None] * AXES[: len(powers)])[None]


def floored(squared_cosine: float) -> float:
    return float(10 * np.log10((squared_cosine + 1e-8) / (1 - squared_cosine + 1e-8)))


def test_a_missed_source_is_no_pair_while_the_counts_are_equal():
    references = signals(1, 0.25, 0, 0)
    # Matched estimates of power 0.9, 0.002, 0.5 and 0 against a threshold of 0.0025, given in another order.
    given = signals(0.9, 0.002, 0.5, 0)[:, [3, 2, 1, 0]]
    scores = fuss_scores(references, given, references.sum(dim=1))
    assert scores.estimate[0, :2].tolist() == [3, 2]
    assert scores.active_pair.tolist() == [[True, False, False, False]]
    assert scores.num_active_references.tolist() == [2]
    assert scores.num_active_estimates.tolist() == [2]
    assert scores.si_sdr[0, 0].item() == pytest.approx(80, abs=1e-6)


def test_scores_are_floored_at_eighty_decibels_either_way():
    references = signals(1, 1)
    scores = floored_si_sdr_pairs(references, torch.cat([references, torch.zeros(1, 1, 8)], dim=1))[0]
    top, bottom = floored(1), floored(0)
    assert (top, bottom) == (pytest.approx(80), pytest.approx(-80))
    np.testing.assert_allclose(scores.numpy(), [[top, bottom], [bottom, top], [bottom, bottom]], atol=1e-5)


def test_si_sdr_and_its_improvement_by_hand():
    # s = (1, -1, 1, -1), x = (2, -2, 2, 0): c^2 = 0.75; the mixture s + 1: c^2 = 0.5.
    references = torch.tensor([[[1.0, -1, 1, -1]]])
    estimates = torch.tensor([[[2.0, -2, 2, 0]]])
    scores = fuss_scores(references, estimates, references[:, 0] + 1)
    assert scores.si_sdr.item() == pytest.approx(4.7712, abs=1e-4)
    assert scores.si_sdri.item() == pytest.approx(4.7712, abs=1e-4)
    # c^2 = 0.8 of twice s and something of its energy that is orthogonal: 10 lg 4.
    easier = 2 * references[:, 0] + 1
    assert fuss_scores(references, estimates, easier).si_sdri.item() == pytest.approx(4.7712 - 6.0206, abs=1e-4)


def test_a_power_at_the_threshold_is_not_active():
    references = signals(1, 0.25)
    just = signals(1, 0.0025 * (1 + 1e-9))
    below = signals(1, 0.0025 * (1 - 1e-9))
    assert fuss_scores(references, just, references.sum(dim=1)).active_pair.tolist() == [[True, True]]
    assert fuss_scores(references, below, references.sum(dim=1)).active_pair.tolist() == [[True, False]]


def test_a_reference_is_active_above_an_rms_and_sets_no_threshold_below():
    references = torch.cat([signals(1), 0.9e-8 * AXES[None, 1:2], 1.1e-8 * AXES[None, 2:3]], dim=1)
    scores = fuss_scores(references[:, :2], references[:, :2], references.sum(dim=1))
    assert scores.num_active_references.item() == 1
    assert scores.num_active_estimates.item() == 1  # the faint one is more than 20 dB below the loud reference
    assert fuss_scores(references, references, references.sum(dim=1)).num_active_references.item() == 2


def brute_force(scores: np.ndarray) -> float:
    """The best total of a [K, N] matrix over all orders of its rows."""
    return max(sum(scores[k, n] for n, k in enumerate(order)) for order in itertools.permutations(range(len(scores))))


def test_the_match_has_the_best_total_of_all_orders_and_no_order_of_inputs_matters():
    generator = torch.Generator().manual_seed(0)
    references = torch.randn(16, 4, 50, dtype=torch.float64, generator=generator)
    references[4:8, 3:] = 0
    references[8:12, 2:] = 0
    mixture = references.sum(dim=1)
    estimates = 0.6 * mixture[:, None] + references.roll(1, dims=1)
    estimates = estimates + torch.randn(16, 4, 50, dtype=torch.float64, generator=generator)
    scores = fuss_scores(references, estimates, mixture)
    pairs = floored_si_sdr_pairs(references, estimates).numpy()
    np.testing.assert_allclose(scores.si_sdr.sum(dim=1).numpy(), [brute_force(matrix) for matrix in pairs], atol=1e-9)
    order = torch.tensor([2, 0, 3, 1])
    shuffled = fuss_scores(references, estimates[:, order], mixture)
    torch.testing.assert_close(shuffled.si_sdr, scores.si_sdr)
    assert torch.equal(order[shuffled.estimate][:4], scores.estimate[:4])
    turned = fuss_scores(references[:, order], estimates, mixture)
    torch.testing.assert_close(turned.si_sdri, scores.si_sdri[:, order])
    assert torch.equal(turned.active_pair, scores.active_pair[:, order])


def test_the_total_decides_not_each_reference_for_itself():
    # Estimate 0 is the best for both references, but worth more to the second.
    first, second, noise = AXES[1], AXES[2], AXES[3]
    estimates = torch.stack([first + 3 * second + noise, 0.8 * first + 3 * noise])[None]
    references = torch.stack([first, second])[None]
    scores = fuss_scores(references, estimates, references.sum(dim=1))
    assert scores.estimate.tolist() == [[1, 0]]
    # c^2 of estimate 1 and reference 0: 0.64 / 9.64; the mixture's is 0.5.
    assert scores.si_sdr[0, 0].item() == pytest.approx(floored(0.64 / 9.64), abs=1e-9)
    assert scores.si_sdri[0, 0].item() == pytest.approx(floored(0.64 / 9.64), abs=1e-6)


def test_fewer_estimates_than_references_are_filled_up_with_silence():
    references = signals(1, 1, 1)
    scores = fuss_scores(references, references[:, [2, 0]], references.sum(dim=1))
    assert scores.estimate.tolist() == [[1, -1, 0]]
    assert scores.active_pair.tolist() == [[True, False, True]]
    assert scores.num_active_estimates.item() == 2
    assert scores.si_sdr[0, 1].item() == pytest.approx(-80, abs=1e-6)


def test_estimates_beyond_the_references_are_counted_and_missing_references_change_nothing():
    references = signals(1, 1)
    estimates = signals(0.001, 0.5, 0.7, 0.9).roll(1, dims=1)
    alone = fuss_scores(references, estimates, references.sum(dim=1))
    assert alone.estimate.tolist() == [[1, 2]]
    assert alone.num_active_estimates.item() == 3
    filled = fuss_scores(torch.cat([references, torch.zeros(1, 2, 8)], dim=1), estimates, references.sum(dim=1))
    torch.testing.assert_close(filled.si_sdr[:, :2], alone.si_sdr)
    assert filled.active_pair[:, :2].tolist() == alone.active_pair.tolist() == [[False, True]]
    assert not filled.active_pair[:, 2:].any()


def test_a_mixture_of_nothing_has_nothing_active():
    scores = fuss_scores(torch.zeros(1, 2, 8), signals(1, 1), torch.zeros(1, 8))
    assert (scores.num_active_references.item(), scores.num_active_estimates.item()) == (0, 0)
    assert not scores.active_pair.any()
    assert torch.isfinite(scores.si_sdri).all()


def test_scale_does_not_matter_until_the_floor_of_energy():
    references = signals(1)
    estimate = AXES[None, :1] + AXES[None, 1:2]
    assert floored_si_sdr_pairs(references, 1e-7 * estimate).item() == pytest.approx(0, abs=1e-9)
    # A norm of 1e-9 counts as 1e-8: c^2 is a hundredth of one half.
    faint = 1e-9 * estimate / estimate.norm()
    assert floored_si_sdr_pairs(references, faint).item() == pytest.approx(floored(0.005), abs=1e-6)


def test_values_that_are_not_finite_are_named():
    good = signals(1, 1)
    with pytest.raises(ValueError, match="an estimate holds"):
        fuss_scores(good, good / 0, good.sum(dim=1))
