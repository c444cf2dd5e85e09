"""What maps are when they are blended with an object prior, written out for one picture."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def blended_with_prior(own: Tensor, resnet: nn.Module, picture: Tensor, share: float) -> Tensor:
    """`share` of a map [H, W] and the rest of what a ResNet that knows ImageNet makes of the picture uint8 [H, W, 3],
    the mean of its absolute features, each from 0 to 1 (EZ-VSL's object-guided localization)."""
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    image = ((picture / 255 - mean) / std).permute(2, 0, 1)[None]
    features = resnet(image).abs().mean(dim=1, keepdim=True)
    prior = F.interpolate(features, size=picture.shape[:2], mode="bilinear", align_corners=False)[0, 0]
    scaled = [(each - each.min()) / (each.max() - each.min()) for each in (own, prior)]
    return share * scaled[0] + (1 - share) * scaled[1]
