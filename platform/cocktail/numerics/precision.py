"""Full precision for what must not be computed in half precision."""

from __future__ import annotations

import torch
from torch import Tensor


def at_least_float32(x: Tensor) -> Tensor:
    """The tensor in float32 if it is in less, as under autocast; in float64 if it is."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
