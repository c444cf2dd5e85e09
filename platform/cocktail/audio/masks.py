"""Ideal masks: what references say a mask on a grid should be. Targets of mask-based separation, and its oracles.

`sources` are magnitudes [B, N, F, M] and `mixture` magnitudes [B, 1, F, M] throughout.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

MaskKind = Literal["binary", "ratio"]
"""Masks that models are taught: cut, or shares of the mixture."""
_LEAST = 1e-10
"""Magnitude that a mixture is taken to have at least."""


def ideal_binary_mask(sources: Tensor, mixture: Tensor) -> Tensor:
    """Mask of where a source is the dominant component: m_i = [|W_i| > 0.5 |W_mix|] (SGN section III-C).

    Masks of one mixture are not complementary: where phases cancel, both sources or neither can be set.
    """
    return (sources > 0.5 * mixture).to(sources.dtype)


def ideal_ratio_mask(sources: Tensor, mixture: Tensor) -> Tensor:
    """A source's share of the mixture's magnitude: m_i = |W_i| / |W_mix|, in [0, 1] as a sigmoid gives it.

    Differs from Sound of Pixels, which lets masks reach 5: where phases cancel, a source is louder than the mixture.
    """
    return (sources / mixture.clamp(min=_LEAST)).clamp(0.0, 1.0)


def ideal_wiener_mask(sources: Tensor) -> Tensor:
    """A source's share of the power of all sources: m_i = |W_i|^2 / sum_j |W_j|^2; 0 where all are silent.

    The masks of one mixture add up to 1, and its phases play no part.
    """
    power = sources.square()
    return power / power.sum(dim=1, keepdim=True).clamp(min=_LEAST**2)


def ideal_phase_sensitive_mask(products: Tensor, mixture_power: Tensor) -> Tensor:
    """A source's part along the mixture's phase: m_i = |W_i| / |W_mix| cos(angle(W_i) - angle(W_mix)), in [0, 1].

    Of all real masks in that range it leaves the least squared error |W_i - m W_mix|^2 in each place (Erdogan et al.,
    Phase-sensitive and recognition-boosted speech separation using deep recurrent neural networks, ICASSP 2015).
    `products` are Re(W_i W_mix*) [B, N, F, M], and `mixture_power` is |W_mix|^2 [B, 1, F, M].
    """
    return (products / mixture_power.clamp(min=_LEAST**2)).clamp(0.0, 1.0)
