"""Estimates that add up to their mixture (Wisdom et al., "Differentiable Consistency Constraints for Improved Deep
Speech Enhancement", ICASSP 2019).

Shape letters: B batch, N sources, T samples.
"""

from __future__ import annotations

from torch import Tensor

from cocktail.numerics.precision import at_least_float32


def add_up_to(mixture: Tensor, estimates: Tensor, weights: Tensor) -> Tensor:
    """Estimates [B, N, T] that add up to mixtures [B, T]: what is missing is shared out by weights [B, N].

    The weights of a mixture are not negative and add up to 1. Even ones change the estimates least, by squares. In
    float32 at least.
    """
    mixture, estimates, weights = at_least_float32(mixture), at_least_float32(estimates), at_least_float32(weights)
    missing = mixture - estimates.sum(dim=1)
    return estimates + weights[..., None] * missing[:, None]
