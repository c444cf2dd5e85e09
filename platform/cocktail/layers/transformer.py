"""Transformer blocks: pre-norm self-attention with stochastic depth, cross-attention, and attention without weights.

Shape letters: B batch, L tokens, S tokens attended to, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cocktail.numerics.randomness import draw_rows


class TransformerBlock(nn.Module):
    """LayerNorm, multi-head self-attention, residual; LayerNorm, MLP with GELU, residual: [B, L, D] -> same.

    In training each residual branch of each example is dropped with probability `stochastic_depth` and
    scaled up otherwise (Huang et al., ECCV 2016). The bias of the keys does not learn (`without_gradient`).
    """

    def __init__(self, width: int, num_heads: int, mlp_ratio: float, stochastic_depth: float) -> None:
        super().__init__()
        require_heads(width, num_heads)
        self.num_heads = num_heads
        self.stochastic_depth = stochastic_depth
        self.attention_norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.attention_out = nn.Linear(width, width)
        hidden = int(width * mlp_ratio)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))
        self.apply(initialize)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self._drop(self._attend(self.attention_norm(x)))
        return x + self._drop(self.mlp(self.mlp_norm(x)))

    def _attend(self, x: Tensor) -> Tensor:
        B, L, D = x.shape
        projected = F.linear(x, self.qkv.weight, without_gradient(self.qkv.bias, D, 2 * D))
        query, key, value = projected.view(B, L, 3, self.num_heads, D // self.num_heads).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(query, key, value)
        return self.attention_out(attended.transpose(1, 2).reshape(B, L, D))

    def _drop(self, branch: Tensor) -> Tensor:
        if not self.training or self.stochastic_depth == 0:
            return branch
        keep = 1.0 - self.stochastic_depth
        kept = draw_rows(lambda rows: branch.new_empty(rows, 1, 1).bernoulli_(keep), branch.shape[0])
        return branch * kept / keep


class CrossAttentionBlock(nn.Module):
    """Tokens [B, L, D] that attend to features [B, S, D], residual, then LayerNorm, MLP, residual: [B, L, D].

    The bias of the keys does not learn (`without_gradient`).
    """

    def __init__(self, width: int, num_heads: int, mlp_ratio: float) -> None:
        super().__init__()
        require_heads(width, num_heads)
        self.num_heads = num_heads
        self.token_norm = nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.attention_out = nn.Linear(width, width)
        hidden = int(width * mlp_ratio)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))
        self.apply(initialize)

    def forward(self, tokens: Tensor, features: Tensor) -> Tensor:
        B, L, D = tokens.shape
        heads = (self.num_heads, D // self.num_heads)
        query = self.query(self.token_norm(tokens)).view(B, L, *heads).transpose(1, 2)
        projected = F.linear(features, self.key_value.weight, without_gradient(self.key_value.bias, 0, D))
        key, value = projected.view(B, features.shape[1], 2, *heads).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(query, key, value)
        tokens = tokens + self.attention_out(attended.transpose(1, 2).reshape(B, L, D))
        return tokens + self.mlp(self.mlp_norm(tokens))


class LiteralAttention(nn.Module):
    """Attention softmax(X X^T / sqrt(D)) X as SGN's eq. 3 prints it, [B, L, D] -> same: no weights, heads or norm."""

    def forward(self, x: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(x, x, x)


def without_gradient(bias: Tensor, first: int, end: int) -> Tensor:
    """A bias [D] of whose entries first to end - 1 get a gradient of zero.

    A bias of attention's keys adds the same to all scores of a query and cancels out of their softmax: its gradient
    would be rounding alone, of which Adam makes whole steps. It is in checkpoints, and stays as it is.
    """
    return torch.cat([bias[:first], bias[first:end].detach(), bias[end:]])


def require_heads(width: int, num_heads: int) -> None:
    """Raise ValueError if the heads do not divide the width."""
    if width % num_heads:
        raise ValueError(f"the width {width} must be a multiple of the number of heads, {num_heads}")


def initialize(module: nn.Module) -> None:
    """Linear weights truncated normal with deviation 0.02, biases zero, as vision transformers start."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
