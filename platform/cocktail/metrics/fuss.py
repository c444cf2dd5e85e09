"""Scores of mixtures of a varying number of sources, as published with FUSS (Wisdom et al., 2021).

Estimates are matched with references, missing ones included, in the order with the highest total of a floored SI-SDR,
10 lg (c^2 + e) / (1 - c^2 + e) with e = 1e-8 and c the cosine of the two signals: from -80 dB, which whatever is paired
with silence has, to 80 dB. Only pairs of which both are active count in means: a source that was missed drops out, so
the share of mixtures with too few active estimates belongs beside any mean (`cocktail.tasks.separation.fuss`).

Shape letters: B mixtures, N references, K estimates, T samples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

RATIO_FLOOR = 1e-8
ENERGY_FLOOR = 1e-16
"""The least that a signal's sum of squares counts as: its norm is at least 1e-8. Fainter signals score lower."""
ACTIVE_RMS = 1e-8
"""A reference above this is active."""
ACTIVE_POWER_SHARE = 0.01
"""An estimate above this share of the weakest active reference's power is active: 20 dB below it."""


@dataclass(frozen=True, kw_only=True)
class FussScores:
    """B mixtures' scores by the FUSS rule; those of a reference mean something where `active_pair` is true."""

    si_sdr: Tensor
    """SI-SDR, float64 [B, N], in dB, in [-80, 80]; higher is better."""
    si_sdri: Tensor
    """Improvement, float64 [B, N], in dB: `si_sdr` less the mixture's; higher is better."""
    estimate: Tensor
    """Index, int64 [B, N], of the estimate matched with each reference, -1 if it got none of the K."""
    active_pair: Tensor
    """Whether reference and matched estimate are both active, bool [B, N]."""
    num_active_references: Tensor
    """Number of active references, int64 [B]."""
    num_active_estimates: Tensor
    """Number of active estimates, int64 [B], of all K, matched with an active reference or not."""


def fuss_scores(references: Tensor, estimates: Tensor, mixture: Tensor) -> FussScores:
    """The scores of estimates [B, K, T] of references [B, N, T], zeros where one is missing, in a mixture [B, T].

    References and estimates may be in any order and number; the fewer are filled up with silence. A mixture without an
    active reference has no active estimate either. Raises ValueError for values that are not finite.
    """
    for name, signals in (("a reference", references), ("an estimate", estimates), ("a mixture", mixture)):
        if not torch.isfinite(signals).all():
            raise ValueError(f"{name} holds values that are not finite: leave its mixture out before")
    references, estimates, mixture = references.double(), estimates.double(), mixture.double()
    N, K = references.shape[1], estimates.shape[1]
    size = max(N, K)
    estimates = torch.nn.functional.pad(estimates, (0, 0, 0, size - K))
    pairs = floored_si_sdr_pairs(torch.nn.functional.pad(references, (0, 0, 0, size - N)), estimates)
    # With as many rows as columns, the columns come back in order.
    orders = [linear_sum_assignment(scores, maximize=True)[1] for scores in pairs.mT.cpu().numpy()]
    matched = torch.from_numpy(np.stack(orders)).to(pairs.device)[:, :N]
    score = pairs.gather(1, matched[:, None])[:, 0]

    reference_power, estimate_power = references.square().mean(dim=-1), estimates.square().mean(dim=-1)
    active_reference = reference_power.sqrt() > ACTIVE_RMS
    weakest = reference_power.masked_fill(~active_reference, torch.inf).amin(dim=1, keepdim=True)
    active_estimate = estimate_power > ACTIVE_POWER_SHARE * weakest
    return FussScores(
        si_sdr=score,
        si_sdri=score - floored_si_sdr_pairs(references, mixture[:, None])[:, 0],
        estimate=matched.where(matched < K, -1),
        active_pair=active_reference & active_estimate.gather(1, matched),
        num_active_references=active_reference.sum(dim=1),
        num_active_estimates=active_estimate.sum(dim=1),
    )


def floored_si_sdr_pairs(references: Tensor, estimates: Tensor) -> Tensor:
    """The floored SI-SDR float64 [B, K, N], in dB, of every estimate [B, K, T] against every reference [B, N, T].

    Higher is better, at most 80 dB; -80 dB where either is silent. Within 1e-5 dB, as 1 - c^2 is off by some 1e-15.
    """
    references, estimates = _normalised(references), _normalised(estimates)
    squared_cosines = (estimates @ references.mT).square().clamp(max=1)
    return 10 * torch.log10((squared_cosines + RATIO_FLOOR) / (1 - squared_cosines + RATIO_FLOOR))


def _normalised(signals: Tensor) -> Tensor:
    signals = signals.double()
    return signals / signals.square().sum(dim=-1, keepdim=True).clamp(min=ENERGY_FLOOR).sqrt()
