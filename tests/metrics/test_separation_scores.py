"""Scores against hand calculation; the examples are those of the definitions."""

import numpy as np
import pytest

from cocktail.metrics.separation import bss_eval, is_silent, si_sdr


def impulses(*terms: tuple[float, int]) -> np.ndarray:
    signal = np.zeros(2048)
    for amplitude, place in terms:
        signal[place] += amplitude
    return signal


REFERENCES = np.stack([impulses((1, 0)), impulses((1, 1024))])


def test_bss_eval_of_impulses():
    estimates = np.stack([impulses((1, 0), (0.1, 1024), (0.01, 600)), impulses((1, 1024), (0.2, 0))])
    sdr, sir, sar = bss_eval(REFERENCES, estimates)
    np.testing.assert_allclose(sdr, [19.9568, 13.9794], atol=1e-3)
    np.testing.assert_allclose(sir, [20, 13.9794], atol=1e-3)
    assert sar[0] == pytest.approx(40.0432, abs=1e-3)
    assert sar[1] == 100.0  # over 300 dB, clipped


def test_a_short_delay_is_free_for_sdr_but_not_for_si_sdr():
    estimate = impulses((1, 100), (0.1, 700))
    sdr, _, _ = bss_eval(REFERENCES, np.stack([estimate, REFERENCES[1]]))
    assert sdr[0] == pytest.approx(20, abs=1e-3)
    assert si_sdr(REFERENCES[:1], estimate[None])[0] == -100.0


def test_the_mixture_as_estimate_scores_zero():
    mixture = REFERENCES.sum(0)
    sdr, sir, sar = bss_eval(REFERENCES, np.stack([mixture, mixture]))
    np.testing.assert_allclose(sdr, 0, atol=1e-3)
    np.testing.assert_allclose(sir, 0, atol=1e-3)
    assert (sar == 100.0).all()


def test_si_sdr_by_hand():
    reference, estimate = np.array([[1.0, -1, 1, -1]]), np.array([[2.0, -2, 2, 0]])
    # a = 1.5, |a s|^2 = 9, residual 3.
    assert si_sdr(reference, estimate)[0] == pytest.approx(4.7712, abs=1e-4)
    assert si_sdr(reference, reference + 1.0)[0] == pytest.approx(0.0, abs=1e-9)


def test_si_sdr_ignores_scale_and_is_never_above_sdr():
    random = np.random.default_rng(0)
    references = random.normal(size=(2, 4096))
    estimates = references + 0.3 * references[::-1] + 0.2 * random.normal(size=(2, 4096))
    scores = si_sdr(references, estimates)
    np.testing.assert_allclose(si_sdr(references, 1e-3 * estimates), scores, atol=1e-9)
    assert (bss_eval(references, estimates)[0] >= scores).all()


def test_silence_is_a_sum_below_a_limit():
    signals = np.array([[0.0, 0.0], [1e-6, -1e-6], [1e-4, 0.0]])
    assert is_silent(signals).tolist() == [True, True, False]
