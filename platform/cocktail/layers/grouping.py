"""Category-aware grouping: class tokens gather the features that belong to them (SGN eq. 4-6).

Shape letters: B batch, P patches, C classes, D width.
"""

from __future__ import annotations

import math

from torch import Tensor, nn

from cocktail.layers.transformer import initialize


class CategoryGrouping(nn.Module):
    """Class vectors g [B, C, D] and the assignment A [B, P, C] from features [B, P, D] and tokens [B, C, D].

    A_{p,i} = softmax over the classes i of (W_q f_p).(W_k c_i) / sqrt(D), so each patch divides itself among
    the classes; g_i = c_i + W_o (sum_p A_{p,i} W_v f_p / (sum_p A_{p,i} + eps)). Eq. 5 names no softmax axis:
    only over classes does the denominator of eq. 6 differ from one.
    Differs from the paper: scores are scaled by 1/sqrt(D) and both inputs pass a LayerNorm first, because
    the authors' sibling system does so.
    """

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.feature_norm = nn.LayerNorm(width)
        self.token_norm = nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)
        self.apply(initialize)

    def forward(self, features: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        normed = self.feature_norm(features)
        query, value = self.query(normed), self.value(normed)
        scores = query @ self.key(self.token_norm(tokens)).transpose(1, 2) / math.sqrt(query.shape[-1])
        assignment = scores.float().softmax(dim=-1)
        shares = assignment / (assignment.sum(dim=1, keepdim=True) + self.eps)
        gathered = shares.to(value.dtype).transpose(1, 2) @ value
        return tokens + self.out(gathered), assignment
