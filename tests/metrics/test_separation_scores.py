"""Scores against hand calculation, plain formulas and mir_eval; the examples are those of the definitions."""

import itertools
import warnings

import mir_eval.separation
import numpy as np
import pytest
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from cocktail.metrics.bss_eval import bss_eval, bss_eval_pairs
from cocktail.metrics.separation import (
    clip_db,
    is_silent,
    match,
    reference_bss_eval,
    replace_silent,
    si_sdr,
    si_sdr_pairs,
    snr,
)
from cocktail.types import NO_CLASS


def impulses(*terms: tuple[float, int]) -> Tensor:
    signal = torch.zeros(2048, dtype=torch.float64)
    for amplitude, place in terms:
        signal[place] += amplitude
    return signal


REFERENCES = torch.stack([impulses((1, 0)), impulses((1, 1024))])
ESTIMATES = torch.stack([impulses((1, 0), (0.1, 1024), (0.01, 600)), impulses((1, 1024), (0.2, 0))])


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def assert_db(scores: Tensor, expected: ArrayLike, tolerance: float = 1e-3) -> None:
    np.testing.assert_allclose(scores.numpy(), np.asarray(expected), rtol=0, atol=tolerance)


def unordered(count: int) -> Tensor:
    return torch.full((count,), NO_CLASS)


def test_bss_eval_of_impulses():
    sdr, sir, sar = (clip_db(score[0]) for score in bss_eval(REFERENCES[None], ESTIMATES[None]))
    assert_db(sdr, [19.9568, 13.9794])
    assert_db(sir, [20, 13.9794])
    assert_db(sar, [40.0432, 100])  # the second is over 300 dB, clipped


def test_swapped_impulses_are_put_back_by_their_sir():
    scores = bss_eval_pairs(REFERENCES[None], ESTIMATES.flip(0)[None])
    order = match(unordered(2), unordered(2), scores.sir[0])
    assert order.tolist() == [1, 0]
    assert_db(scores.sdr[0, order, torch.arange(2)], [19.9568, 13.9794])


def test_a_short_delay_is_free_for_sdr_but_not_for_si_sdr():
    estimate = impulses((1, 100), (0.1, 700))
    sdr, _, _ = bss_eval(REFERENCES[None], torch.stack([estimate, REFERENCES[1]])[None])
    assert_db(sdr[0, 0], 20)
    score = si_sdr(REFERENCES[0], estimate)
    assert score == -torch.inf
    assert clip_db(score) == -100


def test_the_mixture_as_estimate_scores_zero():
    mixture = REFERENCES.sum(0)
    sdr, sir, sar = (clip_db(score[0]) for score in bss_eval(REFERENCES[None], torch.stack([mixture, mixture])[None]))
    assert_db(sdr, [0, 0])
    assert_db(sir, [0, 0])
    assert (sar == 100).all()


def test_si_sdr_and_snr_by_hand():
    reference, estimate = torch.tensor([1.0, -1, 1, -1]), torch.tensor([2.0, -2, 2, 0])
    # a = 1.5, |a s|^2 = 9, residual 3.
    assert_db(si_sdr(reference, estimate), 4.7712, 1e-4)
    assert_db(snr(reference, estimate), 0, 1e-9)
    mixture = reference + 1
    assert_db(si_sdr(reference, mixture), 0, 1e-9)
    assert_db(si_sdr(reference, estimate) - si_sdr(reference, mixture), 4.7712, 1e-4)


def test_si_sdr_does_not_remove_the_mean():
    reference = torch.tensor([1.0, -1, 1, -1])
    assert_db(si_sdr(reference, reference + 0.1), 20, 1e-4)


def test_si_sdr_ignores_scale_and_snr_does_not():
    references = normal(0, 2, 4096)
    estimates = references + 0.3 * references.flip(0) + 0.2 * normal(1, 2, 4096)
    scores = si_sdr(references, estimates)
    # Of 1e-200 the square is zero in float64.
    for factor in (-1e-3, 1e8, 1e-200):
        assert_db(si_sdr(references, factor * estimates), scores, 1e-9)
        assert_db(si_sdr(factor * references, estimates), scores, 1e-9)
    assert_db(snr(references, 2 * references), [0, 0], 1e-9)
    assert_db(snr(references, 0 * references), [0, 0], 1e-9)


def test_si_sdr_is_of_any_shape_and_in_float64():
    references, estimates = normal(0, 3, 1, 64).float(), normal(1, 4, 64).float()
    scores = si_sdr(references, estimates)
    assert (scores.shape, scores.dtype) == ((3, 4), torch.float64)
    assert_db(scores[2, 1], si_sdr(references[2, 0].double(), estimates[1].double()), 1e-12)


def longhand_si_sdr(reference: np.ndarray, estimate: np.ndarray) -> float:
    """The formula word by word in extended precision."""
    reference, estimate = reference.astype(np.longdouble), estimate.astype(np.longdouble)
    target = (estimate @ reference) / (reference @ reference) * reference
    return float(10 * np.log10((target @ target) / ((estimate - target) @ (estimate - target))))


def test_pairs_have_all_digits_from_minus_sixty_to_a_hundred_and_eighty_decibels():
    T = 30_000
    references = normal(0, 2, 2, T)
    levels = [-60, -10, 0, 30, 49.9, 50.1, 60, 79, 110, 180]
    noise = normal(1, 2, len(levels), T)
    gains = torch.tensor([10 ** (-level / 20) for level in levels], dtype=torch.float64)
    # Estimate k is close to reference 0 or 1 of its mixture, by turns.
    estimates = references[:, torch.arange(len(levels)) % 2] + gains[:, None] * noise
    scores = si_sdr_pairs(references, estimates)
    expected = [[[longhand_si_sdr(s, x) for s in references[b].numpy()] for x in estimates[b].numpy()] for b in (0, 1)]
    assert scores.shape == (2, len(levels), 2)
    assert np.max(expected) > 179
    assert_db(scores, np.array(expected), 1e-7)


def test_pairs_of_equal_signals_are_beyond_any_limit():
    references = normal(0, 1, 3, 1000)
    scores = si_sdr_pairs(references, 3 * references)[0]
    assert (scores.diagonal() > 250).all()
    assert (scores[~torch.eye(3, dtype=torch.bool)] < 0).all()


@pytest.mark.parametrize("seed", range(3))
def test_sdr_is_never_below_si_sdr(seed):
    T = 4000
    references = normal(seed, 1, 3, T)
    if seed % 2:  # low tones, whose delays are nearly dependent
        tones = torch.sin(torch.arange(T) * torch.tensor([[0.01], [0.013], [0.05]], dtype=torch.float64))
        references = tones + 1e-2 * references
    noise = normal(seed + 100, 1, 3, T)
    kinds = [
        references + 0.3 * references.flip(1),  # the middle one is its reference
        noise,
        references.roll(7, dims=-1),
        references + 1e-3 * noise,
    ]
    for estimates in kinds:
        lead = clip_db(bss_eval_pairs(references, estimates).sdr) - clip_db(si_sdr_pairs(references, estimates))
        assert lead.min() > -1e-6
        assert lead.max() > 1e-3  # the two are not the same


@pytest.mark.parametrize("score", [si_sdr, si_sdr_pairs, snr, reference_bss_eval])
def test_what_cannot_be_scored_is_named(score):
    good = normal(0, 1, 2, 64)[0] if score is reference_bss_eval else normal(0, 1, 2, 64)
    silent, broken = good.clone(), good.clone()
    silent[..., 1, :] = 0
    broken[..., 1, 5] = torch.nan
    with pytest.raises(ValueError, match="a reference is silent"):
        score(silent, good)
    with pytest.raises(ValueError, match="a reference holds values that are not finite"):
        score(broken, good)
    with pytest.raises(ValueError, match="an estimate holds values that are not finite"):
        score(good, broken)
    if score is not snr:
        with pytest.raises(ValueError, match="an estimate is silent"):
            score(good, silent)


def test_clipping_bounds_infinities_and_keeps_nan():
    assert clip_db(torch.tensor([-torch.inf, -101, -3, 100.5, torch.inf])).tolist() == [-100, -100, -3, 100, 100]
    assert clip_db(torch.tensor(torch.nan)).isnan()


def test_silence_is_a_sum_below_a_limit():
    signals = torch.tensor([[0.0, 0.0], [6e-6, -3e-6], [6e-6, -6e-6], [1e-4, 0.0]])
    assert is_silent(signals).tolist() == [True, True, False, False]


def test_a_silent_estimate_scores_as_the_mixture():
    references = normal(0, 2, 2, 3000).float()
    mixture = references.sum(dim=1)
    estimates = references + 0.1 * references.flip(1)
    estimates[0, 1] = 0
    scored, silent = replace_silent(estimates, mixture)
    assert silent.tolist() == [[False, True], [False, False]]
    assert torch.equal(scored[~silent], estimates[~silent])
    assert_db(si_sdr(references, scored)[0, 1], si_sdr(references[0, 1], mixture[0]), 1e-4)
    copies = mixture[:, None].expand_as(references)
    for score, expected in zip(bss_eval(references, scored), bss_eval(references, copies), strict=True):
        assert_db(clip_db(score[0, 1]), clip_db(expected[0, 1]), 1e-2)


def test_without_classes_the_order_is_the_best_of_all():
    for seed in range(20):
        K, N = 4 + seed % 2, 4
        scores = normal(seed, K, N)
        order = match(unordered(N), unordered(K), scores)
        totals = {some: sum(scores[k, n] for n, k in enumerate(some)) for some in itertools.permutations(range(K), N)}
        assert tuple(order.tolist()) == max(totals, key=lambda some: totals[some])


def test_the_order_is_mir_evals():
    references = normal(0, 3, 3000)
    estimates = (references + 0.5 * references.roll(1, dims=0) + 0.2 * normal(1, 3, 3000))[[2, 0, 1]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        *expected, order = mir_eval.separation.bss_eval_sources(references.numpy(), estimates.numpy())
    scores = reference_bss_eval(references, estimates)
    matched = match(unordered(3), unordered(3), scores.sir)
    assert matched.tolist() == order.tolist() == [1, 2, 0]
    for score, values in zip(scores, expected, strict=True):
        assert_db(score[matched, torch.arange(3)], values, 1e-9)


def test_an_estimate_of_a_references_class_is_its_own_whatever_its_score():
    best = 50 * torch.eye(3, dtype=torch.float64)
    # Estimate 0 is of the class of reference 2: references 0 and 1 share what is left, best first.
    assert match(torch.tensor([5, 6, 7]), torch.tensor([7, NO_CLASS, 9]), best).tolist() == [2, 1, 0]
    assert match(torch.tensor([5, 6, 7]), torch.tensor([7, 5, 6]), best).tolist() == [1, 2, 0]
    # To be of no class on both sides is no match.
    assert match(torch.tensor([NO_CLASS, 6]), torch.tensor([NO_CLASS, 9]), best[:2, :2].flip(0)).tolist() == [1, 0]


def test_several_estimates_or_references_of_a_class_are_ordered_by_score():
    scores = torch.tensor([[0.0, 0, 9], [1, 0.5, 9], [0, 0, 9], [2, 5, 9]])
    # Of estimates 0, 1 and 3, which are of reference 0's class, 3 is best; 2 is best for reference 2, of its class.
    assert match(torch.tensor([4, 7, 8]), torch.tensor([4, 4, 8, 4]), scores).tolist() == [3, 1, 2]
    # Two references of one class, and one estimate of it: it goes where it scores best.
    assert match(torch.tensor([8, 8]), torch.tensor([8, 1]), torch.tensor([[1.0, 4], [0, 0]])).tolist() == [1, 0]


def test_infinite_scores_count_as_the_limit():
    # Straight: 100 - 50; crossed: 90 - 100.
    assert match(unordered(2), unordered(2), torch.tensor([[torch.inf, 90], [-torch.inf, -50]])).tolist() == [0, 1]
    # Straight: 100 - 60; crossed: 30 + 30.
    assert match(unordered(2), unordered(2), torch.tensor([[torch.inf, 30], [30, -60]])).tolist() == [1, 0]
    assert match(unordered(2), unordered(2), torch.tensor([[-torch.inf, 3.0], [2, torch.inf]])).tolist() == [1, 0]


def test_what_cannot_be_matched_is_said():
    with pytest.raises(ValueError, match="1 estimates cannot be matched with 2 references"):
        match(unordered(2), unordered(1), torch.zeros(1, 2))
    with pytest.raises(ValueError, match=r"scores are \(2, 3\), not one row for each of 3 estimates of 2"):
        match(unordered(2), unordered(3), torch.zeros(2, 3))
    with pytest.raises(ValueError, match="NaN"):
        match(unordered(2), unordered(2), torch.tensor([[0.0, 1], [torch.nan, 0]]))


def test_reference_scores_are_mir_evals_for_every_assignment():
    references = torch.stack([*REFERENCES, impulses((1, 512), (0.5, 1600))])
    estimates = torch.stack([*ESTIMATES, impulses((1, 512), (0.3, 1), (0.2, 2000)), impulses((1, 3), (0.4, 1030))])
    scores = reference_bss_eval(references, estimates)
    assert scores.sdr.shape == (4, 3)
    for order in ([0, 1, 2], [1, 2, 3], [3, 3, 0]):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = mir_eval.separation.bss_eval_sources(
                references.numpy(), estimates[order].numpy(), compute_permutation=False
            )
        for score, values in zip(scores, expected[:3], strict=True):
            assert_db(clip_db(score[order, torch.arange(3)]), np.clip(values, -100, 100), 1e-6)


def test_reference_scores_of_impulses_are_not_clipped():
    scores = reference_bss_eval(REFERENCES, ESTIMATES)
    assert_db(scores.sdr.diagonal(), [19.9568, 13.9794], 1e-4)
    assert_db(scores.sir.diagonal(), [20, 13.9794], 1e-4)
    assert_db(scores.sar[0, 0], 40.0432, 1e-4)
    assert scores.sar[1, 1] > 300


def test_reference_scores_silence_only_mir_evals_own_warning(monkeypatch):
    original = mir_eval.separation.bss_eval_sources

    def warns_of_something_else(*arguments, **options):
        warnings.warn("something else", FutureWarning, stacklevel=1)
        return original(*arguments, **options)

    monkeypatch.setattr(mir_eval.separation, "bss_eval_sources", warns_of_something_else)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        reference_bss_eval(REFERENCES, ESTIMATES[:1])
    assert [str(warning.message) for warning in caught] == ["something else"]
