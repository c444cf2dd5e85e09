"""Scores of separated signals: SDR, SIR, SAR (BSS Eval v3 "sources") and SI-SDR. All in dB, higher is better.

Shape letters: N sources, T samples.
"""

from __future__ import annotations

import warnings

import numpy as np

LIMIT_DB = 100.0
"""Scores are clipped to plus or minus this before they are averaged."""
SILENCE = 1e-5
"""A signal whose absolute values sum to no more than this is silent, as in Sound of Pixels' evaluation."""


def is_silent(signals: np.ndarray) -> np.ndarray:
    """Which of the signals [..., T] are silent, by SILENCE."""
    return np.abs(signals).sum(axis=-1) <= SILENCE


def bss_eval(references: np.ndarray, estimates: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """SDR, SIR and SAR [N] of estimates [N, T] against references [N, T], in their given order.

    mir_eval's `bss_eval_sources` without permutation: one 512-tap filter of the true source is free. Raises
    ValueError if a reference or an estimate is all zero.
    """
    # Imported here: mir_eval takes a second to import and only scoring needs it.
    import mir_eval.separation

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "mir_eval.separation", FutureWarning)
        sdr, sir, sar, _ = mir_eval.separation.bss_eval_sources(
            references.astype(np.float64), estimates.astype(np.float64), compute_permutation=False
        )
    return tuple(np.clip(score, -LIMIT_DB, LIMIT_DB) for score in (sdr, sir, sar))  # pyright: ignore[reportReturnType]


def si_sdr(references: np.ndarray, estimates: np.ndarray) -> np.ndarray:
    """Scale-invariant SDR [N] of estimates [N, T] against references [N, T] (Le Roux et al., 2019).

    10 lg |a s|^2 / |x - a s|^2 with a = <x, s> / <s, s>; the mean is not removed.
    """
    references, estimates = references.astype(np.float64), estimates.astype(np.float64)
    scale = (estimates * references).sum(-1) / (references**2).sum(-1)
    target = scale[..., None] * references
    with np.errstate(divide="ignore"):
        ratio = (target**2).sum(-1) / ((estimates - target) ** 2).sum(-1)
        return np.clip(10 * np.log10(ratio), -LIMIT_DB, LIMIT_DB)
