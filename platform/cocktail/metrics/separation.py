"""Scores of separated signals: SDR, SIR, SAR (BSS Eval v3 "sources") and SI-SDR. All in dB, higher is better.

Shape letters: N sources, T samples.
"""

from __future__ import annotations

import numpy as np
import torch

from cocktail.metrics.bss_eval import bss_eval as batched_bss_eval

LIMIT_DB = 100.0
"""Scores are clipped to plus or minus this before they are averaged."""
SILENCE = 1e-5
"""A signal whose absolute values sum to no more than this is silent, as in Sound of Pixels' evaluation."""


def is_silent(signals: np.ndarray) -> np.ndarray:
    """Which of the signals [..., T] are silent, by SILENCE."""
    return np.abs(signals).sum(axis=-1) <= SILENCE


def bss_eval(references: np.ndarray, estimates: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """SDR, SIR and SAR [N] of estimates [N, T] against references [N, T], in their given order.

    `cocktail.metrics.bss_eval`, clipped to LIMIT_DB: one 512-tap filter of the true source is free. Raises ValueError
    if a reference or an estimate is all zero.
    """
    # Copies: what comes out of Ray's memory must not be written to, and torch would warn of that.
    signals = [torch.from_numpy(np.array(array, np.float64))[None] for array in (references, estimates)]
    scores = batched_bss_eval(signals[0], signals[1])
    return tuple(score[0].clamp(-LIMIT_DB, LIMIT_DB).numpy() for score in scores)  # pyright: ignore[reportReturnType]


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
