"""Classes beside a network that separates: said by it (a head on its features), or told to it (FiLM).

Shape letters: B batch, R rows (mixtures, or mixtures times sources), C classes, D channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cocktail.layers.transformer import initialize

INIT_STD = 0.1
"""Deviation of scales and shifts at the start: classes are told apart from the first step on."""


class ClassHead(nn.Module):
    """Logits [B, C] of each class being heard, from features [B, D, ...]: their mean over all other axes, and a linear
    layer. `cocktail.losses.class_constraint.presence_loss` is the loss that goes with it."""

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, num_classes).apply(initialize)

    def forward(self, features: Tensor) -> Tensor:
        return self.linear(features.flatten(2).mean(dim=2))


class FiLM(nn.Module):
    """Features [R, D, ...] scaled and shifted, channel by channel, as the class of their row [R] says (Perez et al.,
    "FiLM: Visual Reasoning with a General Conditioning Layer", AAAI 2018). NO_CLASS leaves them as they are."""

    def __init__(self, num_classes: int, channels: int) -> None:
        super().__init__()
        self.table = nn.Parameter(nn.init.normal_(torch.empty(num_classes, 2, channels), std=INIT_STD))

    def scale_and_shift(self, class_ids: Tensor) -> tuple[Tensor, Tensor]:
        """The factors and the summands, each [..., D], of classes [...]: 1 + what is learned, and what is learned."""
        learned = self.table[class_ids.clamp(min=0)] * (class_ids >= 0)[..., None, None]
        scale, shift = learned.unbind(dim=-2)
        return 1 + scale, shift

    def forward(self, features: Tensor, class_ids: Tensor) -> Tensor:
        ones = [1] * (features.dim() - 2)
        scale, shift = (each.to(features.dtype).view(*each.shape, *ones) for each in self.scale_and_shift(class_ids))
        return torch.addcmul(shift, features, scale)
