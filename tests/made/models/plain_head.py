"""The mask head as the paper writes it, which the folded one must equal; it exists for tests and benchmarks."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from cocktail.layers.mask_head import MaskHead


class PlainMaskHead(MaskHead):
    """All K maps at full resolution, then the inner product with each source's vector."""

    @classmethod
    def of(cls, head: MaskHead) -> PlainMaskHead:
        """A plain head with the very parameters of another head."""
        K, D = head.weight.shape[:2]
        plain = cls(D, K)
        for name, parameter in head.named_parameters():
            setattr(plain, name, parameter)
        return plain

    def forward(self, features: Tensor, vectors: Tensor) -> Tensor:
        up = F.interpolate(features, scale_factor=2, mode="bilinear", align_corners=True)
        maps = F.conv2d(up, self.weight, self.map_bias, padding=1)
        return torch.einsum("bnk,bkhw->bnhw", vectors * self.scale, maps) + self.bias
