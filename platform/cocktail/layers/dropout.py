"""Dropout (Srivastava et al., JMLR 2014) by which an example loses the same, however a batch is divided."""

from __future__ import annotations

from torch import Tensor, nn

from cocktail.numerics.randomness import draw_rows


class Dropout(nn.Module):
    """In training each value of features [B, ...] is zero with a probability, and scaled up otherwise."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, features: Tensor) -> Tensor:
        if not self.training or self.probability == 0:
            return features
        keep = 1 - self.probability
        kept = draw_rows(lambda rows: features.new_empty(rows, *features.shape[1:]).bernoulli_(keep), len(features))
        return features * kept / keep

    def extra_repr(self) -> str:
        return f"probability={self.probability}"
