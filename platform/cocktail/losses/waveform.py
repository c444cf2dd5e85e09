"""Losses of waveforms: how far each estimate of a mixture is from each of its sources, and the loss of a network whose
outputs are anonymous sources, or stems.

Shape letters: B batch, K estimates or outputs, N sources, C classes, T samples.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from cocktail.losses.permutation import permutation_invariant_loss
from cocktail.metrics.separation import is_silent
from cocktail.numerics.precision import at_least_float32
from cocktail.types import MixtureBatch

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
    An estimate far more than 160 dB below a source counts as if it had nothing of it, so gradients are bounded; a
    silent estimate has none.
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


def separation_loss(
    loss: WaveformLoss, outputs: Tensor, references: Tensor, batch: MixtureBatch, *, stems: bool
) -> Tensor:
    """The loss, a scalar, of outputs [B, K, T] for references [B, N, T]: those of stems by class, one output a class;
    others in the order of the least loss.

    What no source of a mixture stands for learns to be silent, and the mean is over outputs, then over mixtures. SI-SDR
    knows no silence: there the mean is over the sources that sound, and outputs left over cost nothing.
    """
    pairwise, K = PAIRWISE[loss], outputs.shape[1]
    if stems:
        targets = by_class(references, batch.class_ids, K)
        # Nothing is paired: B K mixtures of one source each.
        sums = pairwise(outputs.flatten(0, 1)[:, None], targets.flatten(0, 1)[:, None]).view(-1, K).sum(dim=1)
    else:
        assert references.shape[1] <= K
        targets = F.pad(references, (0, 0, 0, K - references.shape[1]))
        sums = permutation_invariant_loss(pairwise(outputs, targets))
    if loss == "si_sdr":
        K = (batch.present & ~is_silent(references)).sum(dim=1).clamp(min=1)
    return (sums / K).mean()


def by_class(references: Tensor, class_ids: Tensor, num_classes: int) -> Tensor:
    """References [B, C, T] of all classes, of those [B, N, T] of classes [B, N]; silence of a class that is not there.

    Sources of NO_CLASS have to be silent.
    """
    targets = references.new_zeros(len(references), num_classes, references.shape[-1])
    return targets.scatter_add_(1, class_ids.clamp(min=0)[..., None].expand_as(references), references)


def _inner_products(estimates: Tensor, references: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Inner products [B, K, N], and energies [B, K, 1] and [B, 1, N], in float64: what is left of two energies when
    their product is taken off has no digits in less."""
    with torch.autocast(estimates.device.type, enabled=False):
        estimates, references = estimates.double(), references.double()
        products = estimates @ references.mT
        return products, estimates.square().sum(dim=-1)[..., None], references.square().sum(dim=-1)[:, None]
