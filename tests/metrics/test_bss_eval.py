"""Our BSS Eval is mir_eval's, faster, for any batch, and says what it cannot score."""

import warnings

import mir_eval.separation
import numpy as np
import pytest
import torch

from cocktail.metrics.bss_eval import bss_eval, bss_eval_pairs

T = 6000


def reference_scores(references: np.ndarray, estimates: np.ndarray) -> np.ndarray:
    """mir_eval's SDR, SIR and SAR [3, N]."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.stack(mir_eval.separation.bss_eval_sources(references, estimates, compute_permutation=False)[:3])


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


@pytest.mark.parametrize("numbers", [range(16), pytest.param(range(16, 100), marks=pytest.mark.slow)])
def test_a_hundred_cases_score_as_in_mir_eval(numbers):
    for number in numbers:
        references, estimates = case(number)
        expected = reference_scores(references, estimates)
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


def test_no_score_depends_on_the_batch_or_on_scale():
    generator = torch.Generator().manual_seed(1)
    references = torch.randn(5, 3, T, dtype=torch.float64, generator=generator)
    noise = torch.randn(5, 3, T, dtype=torch.float64, generator=generator)
    estimates = references + 0.3 * references.roll(1, dims=1) + 0.1 * noise
    together = bss_eval(references, estimates)
    for b in range(5):
        alone = bss_eval(references[b : b + 1], 1e-8 * estimates[b : b + 1])
        for score, expected in zip(alone, together, strict=True):
            torch.testing.assert_close(score[0], expected[b], atol=1e-9, rtol=0)


def test_pairs_are_every_estimate_against_every_reference():
    references, estimates = (torch.from_numpy(signals)[None] for signals in case(0))
    pairs = bss_eval_pairs(references, estimates)
    swapped = bss_eval(references, estimates.flip(1))
    for score, expected in zip(pairs, swapped, strict=True):
        torch.testing.assert_close(score[0].flip(0).diagonal(), expected[0], atol=1e-9, rtol=0)


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
