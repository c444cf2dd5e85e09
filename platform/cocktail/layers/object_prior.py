"""A prior for what looks like an object, whatever is heard, which EZ-VSL's object-guided localization blends into maps.

Shape letters: B batch, V views, N sources, H and W height and width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cocktail.layers.encoders import ImageNetScale
from cocktail.layers.resnet import ResNet18
from cocktail.layers.views import to_pictures, view_of


class ObjectPrior(nn.Module):
    """The mean over channels of the absolute features of a ResNet-18 that knows ImageNet; never trained."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = ImageNetScale()
        self.resnet = ResNet18().requires_grad_(False)

    def train(self, mode: bool = True) -> ObjectPrior:
        """Batch statistics, too, stay ImageNet's."""
        return super().train(False)

    @torch.no_grad()
    def blend(self, maps: Tensor, views: Tensor, class_ids: Tensor, share: float) -> Tensor:
        """Blend `share` of the maps [B, N, H, W] of sources [B, N] in views uint8 [B, V, H, W, 3] with the rest of the
        prior's, each scaled to [0, 1] over its view."""
        features = self.resnet(self.scale(views.flatten(0, 1), self.resnet.conv1.weight.dtype))
        strength = features.abs().mean(dim=1).flatten(1).unflatten(0, views.shape[:2])
        prior = to_pictures(strength[:, view_of(class_ids, strength)], views.shape[2], self.resnet.stride)
        return share * _scaled(maps) + (1 - share) * _scaled(prior)


def _scaled(maps: Tensor) -> Tensor:
    """Maps from 0 to 1; constant ones become 0."""
    lowest, highest = maps.amin(dim=(-2, -1), keepdim=True), maps.amax(dim=(-2, -1), keepdim=True)
    return (maps - lowest) / (highest - lowest).clamp(min=torch.finfo(maps.dtype).tiny)
