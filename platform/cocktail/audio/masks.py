"""Ideal masks, the targets and the ceiling of mask-based separation.

`sources` are magnitudes [B, N, F, M] and `mixture` magnitudes [B, 1, F, M] throughout.
"""

from __future__ import annotations

from torch import Tensor


def ideal_binary_mask(sources: Tensor, mixture: Tensor) -> Tensor:
    """Mask of where a source is the dominant component: m_i = [|W_i| > 0.5 |W_mix|] (SGN section III-C).

    Masks of one mixture are not complementary: where phases cancel, both sources or neither can be set.
    """
    return (sources > 0.5 * mixture).to(sources.dtype)


def ideal_ratio_mask(sources: Tensor, mixture: Tensor) -> Tensor:
    """A source's share of the mixture's magnitude: m_i = |W_i| / |W_mix|, in [0, 1] as a sigmoid gives it.

    Differs from Sound of Pixels, which lets masks reach 5: where phases cancel, a source is louder than the mixture.
    """
    return (sources / mixture.clamp(min=1e-10)).clamp(0.0, 1.0)
