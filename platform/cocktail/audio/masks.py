"""Ideal masks, the targets and the ceiling of mask-based separation."""

from __future__ import annotations

from torch import Tensor


def ideal_binary_mask(sources: Tensor, mixture: Tensor) -> Tensor:
    """Where a source is the dominant component: m_i = [|W_i| > 0.5 |W_mix|] (SGN section III-C).

    `sources` are magnitudes [B, N, F, M], `mixture` magnitudes [B, 1, F, M]. Masks of one mixture are not
    complementary: where phases cancel, both sources or neither can be set.
    """
    return (sources > 0.5 * mixture).to(sources.dtype)
