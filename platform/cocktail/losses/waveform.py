"""Losses of waveforms: how far each estimate of a mixture is from each of its sources.

All are pairwise, for `cocktail.losses.permutation`; where it is known which estimate is which source's, B N mixtures of
one estimate and one source each are the same losses without the pairs.

Shape letters: B batch, K estimates, N sources, T samples.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from cocktail.metrics.separation import is_silent
from cocktail.numerics.precision import at_least_float32

WaveformLoss = Literal["si_sdr", "mse", "l1"]
BOUND = 1e-8
"""Least share of an estimate's energy that is, or is not, the source's: losses in dB stay within 80 of zero, as FUSS's
scores do (Wisdom et al., ICASSP 2021)."""
FAINTEST = 1e-16
"""Energy over a source's at which half of an estimate's is taken for something else: 160 dB below it."""


def pairwise_si_sdr_loss(estimates: Tensor, references: Tensor) -> Tensor:
    """Minus the SI-SDR in dB [B, K, N] of estimates [B, K, T] of sources [B, N, T] (Le Roux et al., ICASSP 2019).

    10 lg (1 - c^2) / c^2 of the cosine c, so that neither level nor sign of an estimate plays a part; both shares are
    1e-8 at least. Of a silent source, as `is_silent` has it, nothing can be said: its losses are 0, without gradients.
    An estimate far more than 160 dB below a source counts as if it had nothing of it, so gradients are bounded; a silent
    estimate has none.
    """
    products, of_estimates, of_references = _inner_products(estimates, references)
    heard = ~is_silent(references)[:, None]
    sources = of_references.where(heard, 1.0)
    shares = products.square() / ((of_estimates + FAINTEST * sources) * sources)
    losses = 10 * torch.log10((1 - shares + BOUND) / (shares + BOUND))
    return losses.where(heard, 0.0).to(at_least_float32(estimates).dtype)


def pairwise_mse(estimates: Tensor, references: Tensor) -> Tensor:
    """The mean squared difference [B, K, N] of estimates [B, K, T] from sources [B, N, T]; a silent one asks for
    silence."""
    products, of_estimates, of_references = _inner_products(estimates, references)
    errors = (of_estimates + of_references - 2 * products) / references.shape[-1]
    return errors.to(at_least_float32(estimates).dtype)


def pairwise_l1(estimates: Tensor, references: Tensor) -> Tensor:
    """The mean absolute difference [B, K, N] of estimates [B, K, T] from sources [B, N, T]; a silent one asks for
    silence."""
    estimates = at_least_float32(estimates)
    return torch.stack([(estimates - source).abs().mean(dim=-1) for source in references.split(1, dim=1)], dim=2)


PAIRWISE: dict[WaveformLoss, Callable[[Tensor, Tensor], Tensor]] = {
    "si_sdr": pairwise_si_sdr_loss,
    "mse": pairwise_mse,
    "l1": pairwise_l1,
}


def _inner_products(estimates: Tensor, references: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Inner products [B, K, N], and energies [B, K, 1] and [B, 1, N], in float64: what is left of two energies when
    their product is taken off has no digits in less."""
    with torch.autocast(estimates.device.type, enabled=False):
        estimates, references = estimates.double(), references.double()
        products = estimates @ references.mT
        return products, estimates.square().sum(dim=-1)[..., None], references.square().sum(dim=-1)[:, None]
