"""torch.compile as this platform uses it: faster steps, and nothing else that changes."""

from __future__ import annotations

from torch import nn


def compile_network(model: nn.Module) -> None:
    """Compile a model's forward pass, in place.

    Random numbers are those of the model uncompiled: compiled code has a generator of its own, by which the same run
    would learn something else, and one that was begun without could not be gone on with.
    """
    model.compile(options={"fallback_random": True})
