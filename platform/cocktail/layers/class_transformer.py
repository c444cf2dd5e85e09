"""Class tokens and features in one transformer, and the grouping after it by which each token gathers what is its own
(SGN eq. 3-6; AVGN eq. 4-8).

Shape letters: B batch, P features (patches, locations, sounds), C classes, D width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from cocktail.layers.grouping import Assignment, CategoryGrouping, GroupViTGrouping, SoftmaxAxis
from cocktail.layers.transformer import LiteralAttention, TransformerBlock
from cocktail.types import require


@dataclass(frozen=True, kw_only=True)
class ClassTransformerConfig:
    """The settings of a class transformer and its grouping, which the configuration of a model with one inherits."""

    width: int
    """Width of features and class tokens."""
    depth: int
    """Transformer layers."""
    attention: Literal["block", "literal"] = "block"
    """Kind of transformer layer: a block with heads, MLP and residuals, or as the papers print it, without weights."""
    num_heads: int = 8
    """Attention heads a block."""
    mlp_ratio: float = 4.0
    """Hidden width of a block's MLP over its width."""
    stochastic_depth: float = 0.1
    """Probability of dropping a residual branch in training, the same in every block."""
    grouping: Literal["paper", "groupvit"] = "paper"
    """Grouping as the papers print it, or with token mixing, cross-attention and an MLP around it as in the authors'
    code."""
    assignment: Assignment = "soft"
    """Division of each feature among the classes, or one class for each: Gumbel noise and straight-through gradients in
    training, the best class in testing."""
    gumbel_temperature: float = 1.0
    """Temperature of the hard assignment's gradient."""

    def require_transformer(self) -> None:
        """Raise UsageError for settings that no transformer can have."""
        require(
            self.depth >= 1 and self.num_heads >= 1 and self.width % self.num_heads == 0,
            f"depth {self.depth} and num_heads {self.num_heads} must be at least 1, and num_heads divide width "
            f"{self.width}",
        )
        require(0 <= self.stochastic_depth < 1, f"stochastic_depth must be in [0, 1), not {self.stochastic_depth}")
        require(self.gumbel_temperature > 0, f"gumbel_temperature must be positive, not {self.gumbel_temperature}")


class ClassTransformer(nn.ModuleList):
    """Transformer layers for features [B, P, D], alone or with class tokens [B, C, D] beside them."""

    def __init__(self, config: ClassTransformerConfig) -> None:
        super().__init__(
            TransformerBlock(config.width, config.num_heads, config.mlp_ratio, config.stochastic_depth)
            if config.attention == "block"
            else LiteralAttention()
            for _ in range(config.depth)
        )

    def forward(self, features: Tensor) -> Tensor:
        for layer in self:
            features = layer(features)
        return features

    def with_tokens(self, features: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Features and tokens behind the layers, in which all of them attended to each other."""
        both = self(torch.cat([features, tokens.to(features.dtype)], dim=1))
        return both[:, : features.shape[1]], both[:, features.shape[1] :]


def class_grouping(
    config: ClassTransformerConfig, num_classes: int, eps: float, axis: SoftmaxAxis = "classes"
) -> CategoryGrouping:
    """The grouping of features by class tokens, both as a `ClassTransformer` gives them."""
    how = {"eps": eps, "assignment": config.assignment, "axis": axis, "temperature": config.gumbel_temperature}
    if config.grouping == "paper":
        return CategoryGrouping(config.width, **how)
    return GroupViTGrouping(config.width, num_classes, num_heads=config.num_heads, mlp_ratio=config.mlp_ratio, **how)
