"""The logarithm of the squared error of waveforms, with thresholds: what FUSS's baseline learns from (Wisdom et al.,
"What's All the FUSS About Free Universal Sound Separation Data?", ICASSP 2021, section 3).

Shape letters: B batch, K estimates, N references, T samples.
"""

from __future__ import annotations

import torch
from torch import Tensor

from cocktail.numerics.precision import at_least_float32

LEAST_RMS = 1e-8
"""Level above which a reference is active, full scale 1."""
LEAST_POWER = 1e-8
"""Sum of squares that is added before the logarithm: silence in silence is -80 dB."""


def pairwise_thresholded_log_mse(
    estimates: Tensor,
    references: Tensor,
    mixture: Tensor,
    *,
    active_limit_db: float = 30.0,
    silent_limit_db: float = 20.0,
) -> Tensor:
    """The loss [B, K, N], in dB, of each estimate [B, K, T] as that of each reference [B, N, T] of mixtures [B, T].

    Of an active reference s, 10 lg(|s - s'|^2 + t |s|^2): beyond the limit, t = -30 dB, a better estimate gains little.
    Of a silent one, 10 lg(|s'|^2 + t |x|^2), with t = -20 dB: an estimate so far below the mixture is as good as
    silent. |.|^2 are sums over samples. In float32 at least.
    """
    estimates, references, mixture = (at_least_float32(each) for each in (estimates, references, mixture))
    power = references.square().sum(dim=-1)
    active = power > LEAST_RMS**2 * references.shape[-1]
    of_silence = mixture.square().sum(dim=-1, keepdim=True) * 10 ** (-silent_limit_db / 10)
    floors = torch.where(active, power * 10 ** (-active_limit_db / 10), of_silence)
    wanted = references * active[..., None]
    errors = [(estimates - each).square().sum(dim=-1) for each in wanted.split(1, dim=1)]
    return 10 * torch.log10(torch.stack(errors, dim=2) + floors[:, None] + LEAST_POWER)
