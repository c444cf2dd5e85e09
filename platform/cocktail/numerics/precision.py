"""What products and convolutions are computed in, and full precision for what must not be in half of it."""

from __future__ import annotations

import torch
from torch import Tensor


def use_tf32(allowed: bool) -> None:
    """Whether float32 products and convolutions may run in TF32 on this process's GPU: 10 bits in place of 23.

    Said for both in one place, since by torch's defaults they differ.
    """
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed


def autocast_dtype(precision: str, device: torch.device) -> torch.dtype | None:
    """The type that a training's matrix products run in on a device (`Training.precision`), or None for float32."""
    if precision in ("bfloat16", "float16"):
        return getattr(torch, precision)
    if precision == "auto" and device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.bfloat16
    return None


def uses_tf32(device: torch.device) -> bool:
    """Whether float32 products or convolutions on a device run in TF32, as this process is set up: on GPUs since
    Ampere that are allowed to."""
    if device.type != "cuda" or torch.cuda.get_device_capability(device) < (8, 0):
        return False
    return any(backend.allow_tf32 is True for backend in (torch.backends.cuda.matmul, torch.backends.cudnn))


def precision_in_words(dtype: torch.dtype | None, tf32: bool) -> str:
    """What products and convolutions are computed in, for people: a type, None being float32, and whether what is in
    float32 runs in TF32."""
    name = "float32" if dtype is None else str(dtype).removeprefix("torch.")
    return f"{name}, {'with' if tf32 else 'without'} TF32"


def at_least_float32(x: Tensor) -> Tensor:
    """The tensor in float32 if it is in less, as under autocast; in float64 if it is."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
