"""The spectrogram that a network reads.

Shape letters: B batch, R rows, M frames in time.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

InputNorm = Literal["none", "mixture"]
"""Log magnitudes as they are, or with zero mean and unit deviation over each mixture."""
_DYNAMIC_RANGE = 100 / 20 * math.log(10)
"""100 dB, as the logarithm of magnitudes: what lies further below the loudest bin says nothing, and would rule means
and deviations."""


def log_spectrogram(magnitude: Tensor, norm: InputNorm) -> Tensor:
    """Log magnitudes [B, 1, R, M] of magnitudes.

    Normalised by mixture they are the same for a mixture that is louder, and cut off 100 dB below its loudest bin.
    """
    logarithm = torch.log(magnitude + 1e-10)
    if norm == "none":
        return logarithm
    heard = logarithm.maximum(logarithm.amax(dim=(2, 3), keepdim=True) - _DYNAMIC_RANGE)
    deviation, mean = torch.std_mean(heard, dim=(2, 3), keepdim=True)
    return (heard - mean) / deviation.clamp(min=1e-3)  # of silence, where all are alike
