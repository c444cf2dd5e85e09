"""Transformer blocks: pre-norm self-attention with stochastic depth, cross-attention, and attention without weights.

Shape letters: B batch, L tokens, S tokens attended to, D width.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from cocktail.numerics.randomness import draw_rows


class TransformerBlock(nn.Module):
    """LayerNorm, multi-head self-attention, residual; LayerNorm, MLP with GELU, residual: [B, L, D] -> same.

    In training each residual branch of each example is dropped with probability `stochastic_depth` and
    scaled up otherwise (Huang et al., ECCV 2016).
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
        query, key, value = self.qkv(x).view(B, L, 3, self.num_heads, D // self.num_heads).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(query, key, value)
        return self.attention_out(attended.transpose(1, 2).reshape(B, L, D))

    def _drop(self, branch: Tensor) -> Tensor:
        if not self.training or self.stochastic_depth == 0:
            return branch
        keep = 1.0 - self.stochastic_depth
        kept = draw_rows(lambda rows: branch.new_empty(rows, 1, 1).bernoulli_(keep), branch.shape[0])
        return branch * kept / keep


class CrossAttentionBlock(nn.Module):
    """Tokens [B, L, D] that attend to features [B, S, D], residual, then LayerNorm, MLP, residual: [B, L, D]."""

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
        key, value = self.key_value(features).view(B, features.shape[1], 2, *heads).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(query, key, value)
        tokens = tokens + self.attention_out(attended.transpose(1, 2).reshape(B, L, D))
        return tokens + self.mlp(self.mlp_norm(tokens))


class LiteralAttention(nn.Module):
    """Attention softmax(X X^T / sqrt(D)) X as SGN's eq. 3 prints it, [B, L, D] -> same: no weights, heads or norm."""

    def forward(self, x: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(x, x, x)


def require_heads(width: int, num_heads: int) -> None:
    """Raise ValueError if the heads do not divide the width."""
    if width % num_heads:
        raise ValueError(f"the width {width} must be a multiple of the number of heads, {num_heads}")


def initialize(module: nn.Module) -> None:
    """Linear weights truncated normal with deviation 0.02, biases zero, as vision transformers start."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
