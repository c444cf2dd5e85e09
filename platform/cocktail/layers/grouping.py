"""Category-aware grouping: class tokens gather the features that belong to them (SGN eq. 4-6).

Shape letters: B batch, P patches, C classes, D width.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from cocktail.layers.transformer import CrossAttentionBlock, initialize
from cocktail.numerics.precision import at_least_float32
from cocktail.numerics.randomness import draw_rows

Assignment = Literal["soft", "hard"]
SoftmaxAxis = Literal["classes", "patches"]


def assign(scores: Tensor, kind: Assignment, axis: SoftmaxAxis, temperature: float, noisy: bool) -> Tensor:
    """The assignment A [B, P, C], float32 at least, of patches to classes from scores [B, P, C] (SGN eq. 5).

    Soft: softmax over the classes, so each patch divides itself among them, or over the patches. Hard: one where the
    class is the patch's best, zero elsewhere, with the gradient of softmax(scores / temperature) (straight-through);
    if `noisy`, as in training, Gumbel noise is added to the scores first.
    """
    scores = at_least_float32(scores)
    if kind == "soft":
        return scores.softmax(dim=-1 if axis == "classes" else 1)
    if noisy:
        noise = draw_rows(lambda rows: scores.new_empty(rows, *scores.shape[1:]).exponential_(), len(scores))
        scores = scores - noise.log()  # minus the log of Exp(1) is Gumbel(0, 1)
    soft = (scores / temperature).softmax(dim=-1)
    hard = torch.zeros_like(soft).scatter_(-1, soft.argmax(dim=-1, keepdim=True), 1.0)
    return hard + (soft - soft.detach())


class CategoryGrouping(nn.Module):
    """Class vectors g [B, C, D] and the assignment A [B, P, C] from features [B, P, D] and tokens [B, C, D].

    A is `assign` of the scores (W_q f_p).(W_k c_i) / sqrt(D); g_i = c_i + W_o (sum_p A_{p,i} W_v f_p / (sum_p A_{p,i}
    + eps)). Eq. 5 names no softmax axis: only over classes does the denominator of eq. 6 differ from one.
    Differs from the paper: scores are scaled by 1/sqrt(D) and both inputs pass a LayerNorm first, because
    the authors' sibling system does so.

    Biases that add the same to all scores of a softmax cancel out of it, and what their gradients would be is rounding
    alone, of which Adam makes whole steps: over the classes those of the keys and of the tokens' norm, over the patches
    that of the queries. They stay as they are at the start, zero, and are there for checkpoints, which hold them.
    """

    def __init__(
        self,
        width: int,
        *,
        eps: float,
        assignment: Assignment = "soft",
        axis: SoftmaxAxis = "classes",
        temperature: float = 1.0,
    ) -> None:
        super().__init__()
        self.eps = eps
        self.assignment: Assignment = assignment
        self.axis: SoftmaxAxis = axis
        self.temperature = temperature
        self.feature_norm = nn.LayerNorm(width)
        self.token_norm = nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)
        self.apply(initialize)
        over_classes = assignment == "hard" or axis == "classes"
        for bias in (self.key.bias, self.token_norm.bias) if over_classes else (self.query.bias,):
            bias.requires_grad_(False)

    def forward(self, features: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        return self._gather(self.feature_norm(features), tokens)

    def _gather(self, normed: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        query, value = self.query(normed), self.value(normed)
        scores = query @ self.key(self.token_norm(tokens)).transpose(1, 2) / math.sqrt(query.shape[-1])
        assignment = assign(scores, self.assignment, self.axis, self.temperature, self.training)
        shares = assignment / (assignment.sum(dim=1, keepdim=True) + self.eps)
        gathered = shares.to(value.dtype).transpose(1, 2) @ value
        return tokens + self.out(gathered), assignment


class GroupViTGrouping(CategoryGrouping):
    """The grouping block of the authors' sibling system, which has three things that SGN's equations lack.

    An MLP across the tokens, a cross-attention from them to the features before the assignment, and an MLP across the
    channels after it (GroupViT, Xu et al., CVPR 2022). The first one mixes classes: token i is no more class i alone.
    """

    def __init__(
        self,
        width: int,
        num_classes: int,
        *,
        num_heads: int,
        mlp_ratio: float,
        eps: float,
        assignment: Assignment = "soft",
        axis: SoftmaxAxis = "classes",
        temperature: float = 1.0,
    ) -> None:
        super().__init__(width, eps=eps, assignment=assignment, axis=axis, temperature=temperature)
        hidden = int(width * mlp_ratio)
        self.mixing_norm = nn.LayerNorm(width)
        self.mixing = nn.Sequential(
            nn.Linear(num_classes, width // 2), nn.GELU(), nn.Linear(width // 2, num_classes)
        ).apply(initialize)
        self.attention = CrossAttentionBlock(width, num_heads, mlp_ratio)
        self.channel_norm = nn.LayerNorm(width)
        self.channels = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width)).apply(initialize)

    def forward(self, features: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        normed = self.feature_norm(features)
        mixed = self.mixing(self.mixing_norm(tokens).transpose(1, 2)).transpose(1, 2)
        vectors, assignment = self._gather(normed, self.attention(mixed, normed))
        return vectors + self.channels(self.channel_norm(vectors)), assignment
