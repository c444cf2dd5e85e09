"""Decoupled attention: where each class is in a picture, and whether it is there at all, learned from labels alone
(Zhang et al., "Decoupled Spatial Neural Attention for Weakly Supervised Semantic Segmentation", 2019; co-segmentation
eq. 1-3).

Shape letters: L pictures, or several of one source together, Q places of them, D features, C classes, O objects.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cocktail.layers.dropout import Dropout
from cocktail.numerics.precision import at_least_float32

Activation = Literal["softplus", "relu"]
"""F of eq. 1, which must be positive, or the sum of eq. 2 can vanish or change its sign; relu has 1e-6 added."""
ScorePool = Literal["mean", "sum"]
FeaturePool = Literal["positive", "literal"]
_LEAST = 1e-6


@dataclass(frozen=True, kw_only=True)
class Attention:
    """What classes attend to."""

    expansive: Tensor
    """A_E [L, Q, C]: all of an object, positive; adds up to 1 over the places of each class."""
    discriminative: Tensor
    """A_D [L, Q, C]: what tells a class from others, any numbers."""

    @property
    def maps(self) -> Tensor:
        """X_m [L, Q, C], of any sign."""
        return self.expansive * self.discriminative

    def scores(self, pool: ScorePool, num_pictures: int = 1) -> Tensor:
        """S [L, C]: the sum of the maps over places, or that over the places of one of a source's pictures, as printed
        (eq. 3, of one picture). The sigmoid of a score is the probability that the class is there."""
        places_of_one = self.maps.shape[1] // num_pictures
        return self.maps.sum(dim=1) / (places_of_one if pool == "mean" else 1)

    def attended(self, places: Tensor, pictures: Tensor, class_ids: Tensor, pool: FeaturePool) -> Tensor:
        """V_fm [O, D]: features [L, Q, D] of objects, int64 [O] each, of a class in a picture, weighed by its map.

        `positive` takes the mean by the map's positive part, and, where that is nowhere, by A_E; `literal` the sum by
        the map as it is, of any sign and size.
        """
        weights = self.maps[pictures, :, class_ids]
        if pool == "positive":
            above = weights.relu()
            total = above.sum(dim=1, keepdim=True)
            weights = torch.where(total > 0, above / (total + _LEAST), self.expansive[pictures, :, class_ids])
        return torch.einsum("oq,oqd->od", weights.to(places.dtype), places[pictures])


class DecoupledAttention(nn.Module):
    """The `Attention` of all classes in features [L, Q, D].

    Expansive: dropout, a linear layer place by place (a convolution 1 x 1), dropout, F, and the sum over places made 1.
    Discriminative: a linear layer place by place.
    """

    def __init__(self, channels: int, num_classes: int, activation: Activation, dropout: float) -> None:
        super().__init__()
        self.activation = activation
        self.dropout = Dropout(dropout)
        self.expansive = nn.Linear(channels, num_classes)
        self.discriminative = nn.Linear(channels, num_classes)

    def forward(self, places: Tensor) -> Attention:
        strength = at_least_float32(self.dropout(self.expansive(self.dropout(places))))
        positive = F.softplus(strength) if self.activation == "softplus" else F.relu(strength) + _LEAST
        return Attention(
            expansive=positive / positive.sum(dim=1, keepdim=True),
            discriminative=at_least_float32(self.discriminative(places)),
        )
