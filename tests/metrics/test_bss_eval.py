"""Our BSS Eval is mir_eval's, faster, for any batch, and says what it cannot score."""

import itertools
import sys
import warnings

import mir_eval.separation
import numpy as np
import pytest
import torch

from cocktail.metrics.bss_eval import bss_eval, bss_eval_best, bss_eval_pairs

T = 6000


def reference_scores(references: np.ndarray, estimates: np.ndarray, search: bool = False) -> np.ndarray:
    """mir_eval's SDR, SIR and SAR, and the order [4, N]."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.stack(mir_eval.separation.bss_eval_sources(references, estimates, compute_permutation=search))


def projected_scores(references: np.ndarray, estimates: np.ndarray, taps: int) -> np.ndarray:
    """SDR, SIR and SAR [3, K, N] by their definition: least squares on the delayed references themselves."""
    delayed = [[np.pad(source, (delay, taps - 1 - delay)) for delay in range(taps)] for source in references]

    def projection(signal: np.ndarray, basis: np.ndarray) -> np.ndarray:
        return basis.T @ np.linalg.lstsq(basis.T, signal, rcond=None)[0]

    def decibels(wanted: np.ndarray, rest: np.ndarray) -> float:
        with np.errstate(divide="ignore"):
            return float(10 * np.log10(wanted @ wanted / (rest @ rest)))

    scores = np.empty((3, len(estimates), len(references)))
    for k, estimate in enumerate(np.pad(estimates, ((0, 0), (0, taps - 1)))):
        together = projection(estimate, np.concatenate(delayed))
        for n, own in enumerate(delayed):
            alone = projection(estimate, np.array(own))
            pairs = (alone, estimate - alone), (alone, together - alone), (together, estimate - together)
            scores[:, k, n] = [decibels(*pair) for pair in pairs]
    return scores


def tones(generator: np.random.Generator, count: int) -> np.ndarray:
    """Sums of a few sines over faint noise: what makes Gram matrices ill-conditioned."""
    time = np.arange(T) / 11025
    return np.stack(
        [
            sum(generator.normal() * np.sin(2 * np.pi * generator.uniform(80, 2000) * time) for _ in range(6))
            + 1e-3 * generator.normal(size=T)
            for _ in range(count)
        ]
    )


def case(number: int) -> tuple[np.ndarray, np.ndarray]:
    """(references, estimates) [N, T] of one of a hundred cases, nasty ones among them."""
    generator = np.random.default_rng(number)
    count = 2 + number % 3
    references = tones(generator, count) if number % 2 else generator.normal(size=(count, T))
    noise = generator.normal(size=(count, T))
    kinds = [
        references + 0.3 * references[::-1] + 0.1 * noise,
        references + 1e-3 * references[::-1],
        np.repeat(references.sum(axis=0, keepdims=True), count, axis=0),  # the mixture: equal estimates
        references + 1e-2 * noise,
        1e-8 * (references + 0.2 * references[::-1] + 0.1 * noise),
        np.roll(references, 30, axis=1) * generator.uniform(0.1, 3, size=(count, 1)) + 0.01 * noise,
        noise,  # nothing of the references
        references * np.where(np.arange(count) == 0, 1e-6, 1.0)[:, None] + 1e-4 * noise,  # one is near silence
    ]
    return references, kinds[number % len(kinds)]


# mir_eval takes a second for four sources, a tenth for two: those of two, of every kind, are enough for every day.
FAST = [number for number in range(48) if number % 3 == 0]
SLOW = [number for number in range(100) if number not in FAST]
PARTS = [FAST, *(pytest.param(SLOW[part::6], marks=pytest.mark.slow) for part in range(6))]


@pytest.mark.parametrize("numbers", PARTS)
def test_a_hundred_cases_score_as_in_mir_eval(numbers):
    for number in numbers:
        references, estimates = case(number)
        expected = reference_scores(references, estimates)[:3]
        scores = torch.stack(bss_eval(torch.from_numpy(references)[None], torch.from_numpy(estimates)[None]))[:, 0]
        comparable = np.isfinite(expected) & (expected < 100)
        assert comparable.any()
        np.testing.assert_allclose(scores.numpy()[comparable], expected[comparable], atol=1e-3, err_msg=str(number))
        # Where mir_eval gives more than a hundred, or infinity, so do we.
        assert (scores.numpy()[~comparable] > 99).all(), number


def test_an_estimate_that_is_its_reference_is_beyond_any_limit():
    references = torch.randn(1, 2, T, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    scores = bss_eval(references, references)
    assert all((score > 100).all() for score in scores)


def test_equal_references_share_their_projection():
    # Both span the same space: nothing of an estimate interferes, so SIR is infinite and SDR is SAR.
    generator = np.random.default_rng(0)
    source = generator.normal(size=T)
    references = torch.from_numpy(np.stack([source, source]))[None]
    estimate = references + 0.1 * torch.from_numpy(generator.normal(size=(1, 2, T)))
    sdr, sir, sar = bss_eval(references, estimate)
    assert (sir > 80).all()
    torch.testing.assert_close(sdr, sar, atol=1e-3, rtol=0)
    other = torch.from_numpy(np.stack([source, generator.normal(size=T)]))[None]
    torch.testing.assert_close(sdr[:, 0], bss_eval(other, estimate).sdr[:, 0], atol=1e-3, rtol=0)


def leaking(N: int, *, seed: int = 0, num_samples: int = T) -> tuple[np.ndarray, np.ndarray]:
    """(references, estimates) [N, T]: the estimates are out of order by one, and hold some of the other sources."""
    generator = np.random.default_rng(seed)
    references = generator.normal(size=(N, num_samples))
    mixing = np.eye(N) + generator.uniform(0.05, 0.4, (N, N))
    return references, np.roll(mixing @ references, 1, axis=0) + 0.1 * generator.normal(size=references.shape)


def batch_of_one(references: np.ndarray, estimates: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.from_numpy(references)[None], torch.from_numpy(estimates)[None]


@pytest.mark.parametrize("N", [2, 3, pytest.param(4, marks=pytest.mark.slow)])
def test_the_best_order_is_that_of_mir_eval(N):
    references, estimates = leaking(N)
    expected = reference_scores(references, estimates, search=True)
    scores, order = bss_eval_best(*batch_of_one(references, estimates))
    # Out of order by one, three or more sources tell an order from its inverse.
    assert order[0].tolist() == expected[3].tolist() == [*range(1, N), 0]
    np.testing.assert_allclose(torch.stack(scores)[:, 0].numpy(), expected[:3], atol=1e-3)


def test_the_best_order_is_best_by_mean_sir_where_sdr_would_choose_another():
    references, noise = np.random.default_rng(0).normal(size=(2, 2, T))
    # Either is louder in source 1. Artifacts weigh little in SIR, so that the noisy one is the better estimate of it.
    estimates = np.array([[0.53, 1.0], [0.4, 1.0]]) @ references + np.array([[0], [1]]) * noise
    expected = reference_scores(references, estimates, search=True)
    pairs = bss_eval_pairs(*batch_of_one(references, estimates))
    scores, order = bss_eval_best(*batch_of_one(references, estimates))
    assert pairs.sdr[0].diagonal().mean() < pairs.sdr[0].flip(0).diagonal().mean()
    assert order[0].tolist() == expected[3].tolist() == [0, 1]
    np.testing.assert_allclose(torch.stack(scores)[:2, 0].numpy(), expected[:2], atol=1e-3)


@pytest.mark.parametrize(("N", "K", "taps"), [(1, 2, 16), (2, 5, 7), (3, 1, 24), (4, 4, 32), (5, 3, 12)])
def test_pairs_are_projections_whatever_the_numbers_of_sources_estimates_and_taps(N, K, taps):
    references, _ = leaking(N, num_samples=400)
    generator = np.random.default_rng(1)
    estimates = generator.normal(size=(K, N)) @ np.roll(references, 3, axis=1) + 0.1 * generator.normal(size=(K, 400))
    expected = projected_scores(references, estimates, taps)
    pairs = torch.stack(bss_eval_pairs(*batch_of_one(references, estimates), taps))[:, 0].numpy()
    assert pairs.shape == (3, K, N)
    if N == 1:  # nothing else can interfere
        assert (pairs[1] > 100).all()
        pairs, expected = pairs[::2], expected[::2]
    np.testing.assert_allclose(pairs, expected, atol=1e-6)


def test_the_best_of_all_orders_of_four_sources_is_found():
    references, estimates = leaking(4, num_samples=400)
    sir = projected_scores(references, estimates, 32)[1]
    best = max(itertools.permutations(range(4)), key=lambda order: sir[order, range(4)].mean())
    scores, order = bss_eval_best(*batch_of_one(references, estimates), 32)
    assert order[0].tolist() == list(best)
    np.testing.assert_allclose(scores.sir[0].numpy(), sir[best, range(4)], atol=1e-6)


def test_scores_in_given_order_are_those_of_pairs():
    references, estimates = batch_of_one(*leaking(3))
    pairs = bss_eval_pairs(references, estimates)
    for score, expected in zip(bss_eval(references, estimates), pairs, strict=True):
        torch.testing.assert_close(score[0], expected[0].diagonal(), atol=1e-9, rtol=0)


def test_one_source_is_scored_as_in_mir_eval():
    references, estimates = leaking(1)
    expected = reference_scores(references, estimates)
    scores, order = bss_eval_best(*batch_of_one(references, estimates))
    assert order.tolist() == [[0]]
    assert scores.sir[0, 0] > 100
    np.testing.assert_allclose([scores.sdr[0, 0], scores.sar[0, 0]], [expected[0, 0], expected[2, 0]], atol=1e-3)


def many_mixtures(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(references, estimates) [B, 2, T]: noise, tones, and mixture 5 of equal references."""
    generator = np.random.default_rng(2)
    references = np.stack([tones(generator, 2) if b % 2 else generator.normal(size=(2, T)) for b in range(count)])
    references[5:6, 1] = references[5:6, 0]
    estimates = references + 0.3 * references[:, ::-1] + 0.1 * generator.normal(size=references.shape)
    return torch.from_numpy(references), torch.from_numpy(estimates)


@pytest.mark.parametrize("size", [1, 3, 16])
def test_no_score_depends_on_the_batch(size):
    references, estimates = many_mixtures(17)
    for function in (bss_eval, bss_eval_pairs):
        together = torch.stack(function(references, estimates))
        parts = [slice(begin, begin + size) for begin in range(0, 17, size)]
        apart = torch.cat([torch.stack(function(references[part], estimates[part])) for part in parts], dim=1)
        torch.testing.assert_close(together, apart, atol=1e-9, rtol=0)


def test_the_number_of_threads_is_left_as_it_was_and_matters_to_no_score():
    references, estimates = many_mixtures(2)
    threads, scores = torch.get_num_threads(), []
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            scores.append(torch.stack(bss_eval(references, estimates)))
            with pytest.raises(ValueError, match="silent"):
                bss_eval(references, 0 * estimates)
            assert torch.get_num_threads() == count
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(*scores)


def test_no_score_depends_on_scale_or_precision():
    references, estimates = many_mixtures(4)
    expected = torch.stack(bss_eval(references, estimates))
    faint = torch.stack(bss_eval(1e-200 * references, 1e-200 * estimates))
    torch.testing.assert_close(faint, expected, atol=1e-9, rtol=0)
    single = torch.stack(bss_eval(references.float(), estimates.float()))
    assert single.dtype == torch.float64
    torch.testing.assert_close(single, expected, atol=1e-3, rtol=0)


@pytest.fixture
def dense(monkeypatch) -> list[int]:
    """The numbers of sources of the problems that are solved the dense way, as they come."""
    module, solved = sys.modules[bss_eval.__module__], []
    original = module._dense_energies

    def spy(auto, cross):
        solved.extend([auto.shape[1]] * len(auto))
        return original(auto, cross)

    monkeypatch.setattr(module, "_dense_energies", spy)
    return solved


def test_only_what_has_no_good_factor_is_solved_the_dense_way(dense):
    references, estimates = many_mixtures(7)
    keep = [b for b in range(7) if b != 5]
    bss_eval(references[keep], estimates[keep])
    assert dense == []
    sdr, sir, sar = bss_eval(references, estimates)
    assert dense == [2]  # mixture 5, on both of its references
    # They span one space, so nothing of an estimate interferes.
    assert (sir[5] > 80).all()
    torch.testing.assert_close(sdr[5], sar[5], atol=1e-3, rtol=0)


def test_an_inexact_factor_costs_no_accuracy(dense, monkeypatch):
    references, estimates = many_mixtures(2)
    expected = torch.stack(bss_eval(references, estimates))
    module = sys.modules[bss_eval.__module__]
    original = module._schur_factor

    def off_by(share: float):
        def factor(first_rows):
            blocks, factored = original(first_rows)
            return [(1 + share) * block for block in blocks], factored

        return factor

    # A little inexact, it is corrected; more, and the check sees it.
    monkeypatch.setattr(module, "_schur_factor", off_by(1e-6))
    torch.testing.assert_close(torch.stack(bss_eval(references, estimates)), expected, atol=1e-9, rtol=0)
    assert dense == []
    monkeypatch.setattr(module, "_schur_factor", off_by(1e-4))
    torch.testing.assert_close(torch.stack(bss_eval(references, estimates)), expected, atol=1e-8, rtol=0)
    assert dense == [1, 1, 1, 1, 2, 2]


def impulses(*terms: tuple[float, int]) -> np.ndarray:
    signal = np.zeros(2048)
    for amplitude, place in terms:
        signal[place] = amplitude
    return signal


def test_impulses_score_as_calculated_by_hand():
    references = np.stack([impulses((1, 0)), impulses((1, 1024))])
    estimates = np.stack([impulses((1, 0), (0.1, 1024), (0.01, 600)), impulses((1, 1024), (0.2, 0))])
    sdr, sir, sar = bss_eval(*batch_of_one(references, estimates))
    np.testing.assert_allclose(sdr[0], [10 * np.log10(1 / 0.0101), 10 * np.log10(1 / 0.04)], atol=1e-9)
    np.testing.assert_allclose(sir[0], [20, 10 * np.log10(1 / 0.04)], atol=1e-9)
    np.testing.assert_allclose(sar[0, 0], 10 * np.log10(1.01 / 1e-4), atol=1e-9)
    assert sar[0, 1] > 100
    swapped, order = bss_eval_best(*batch_of_one(references, estimates[::-1].copy()))
    assert order.tolist() == [[1, 0]]
    np.testing.assert_allclose(swapped.sdr, sdr, atol=1e-9)
    np.testing.assert_allclose(swapped.sir, sir, atol=1e-9)
    # A delay is a filter of the source, and free.
    late = np.stack([impulses((1, 100), (0.1, 700)), references[1]])
    np.testing.assert_allclose(bss_eval(*batch_of_one(references, late)).sdr[0, 0], 20, atol=1e-9)


def test_the_mixture_as_every_estimate_scores_nothing():
    references = np.stack([impulses((1, 0)), impulses((1, 1024))])
    sdr, sir, sar = bss_eval(*batch_of_one(references, np.stack([references.sum(axis=0)] * 2)))
    np.testing.assert_allclose(sdr, 0, atol=1e-9)
    np.testing.assert_allclose(sir, 0, atol=1e-9)
    assert (sar > 100).all()


def test_exact_estimates_in_any_order_are_found_though_their_scores_are_infinite():
    references = np.stack([impulses((1, 0)), impulses((1, 512)), impulses((1, 1024))])
    scores, order = bss_eval_best(*batch_of_one(references, references[[2, 0, 1]]))
    assert order.tolist() == [[1, 2, 0]]
    assert all((score > 100).all() for score in scores)


def test_signals_that_cannot_be_scored_are_named():
    good = torch.randn(1, 2, T, dtype=torch.float64)
    silent, broken = good.clone(), good.clone()
    silent[0, 1] = 0
    broken[0, 0, 7] = float("nan")
    with pytest.raises(ValueError, match="a reference is silent"):
        bss_eval(silent, good)
    with pytest.raises(ValueError, match="an estimate is silent"):
        bss_eval(good, silent)
    with pytest.raises(ValueError, match="an estimate holds values that are not finite"):
        bss_eval(good, broken)
    with pytest.raises(ValueError, match=r"1023 samples are too short: .* less than 1024"):
        bss_eval(good[..., :1023], good[..., :1023])
    bss_eval(good[..., :1024], good[..., :1024])
    with pytest.raises(ValueError, match="3 x 6000 samples of estimates"):
        bss_eval_pairs(good, good.expand(3, -1, -1))
    for function in (bss_eval, bss_eval_best):
        with pytest.raises(ValueError, match="cannot be paired"):
            function(good, good[:, :1])
