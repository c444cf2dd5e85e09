"""Full precision for what must not be computed in half precision."""

from __future__ import annotations

import torch
from torch import Tensor


def use_tf32(allowed: bool) -> None:
    """Whether float32 products and convolutions may run in TF32 on this process's GPU: 10 bits in place of 23.

    Said for both in one place, since by torch's defaults they differ.
    """
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed


def at_least_float32(x: Tensor) -> Tensor:
    """The tensor in float32 if it is in less, as under autocast; in float64 if it is."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
