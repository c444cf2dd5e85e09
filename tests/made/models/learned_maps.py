"""Localizers that learn a little, and whether their maps then point at what sounds."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cocktail.audio.mixing import superpose
from cocktail.metrics.localization import average_precision
from cocktail.types import Query
from tests.made.corpora.shapes_and_tones import scenes


def learned(
    model: Any, class_ids: list[list[int]], steps: int, lr: float, fresh: bool, one_background: bool = False
) -> dict[str, Tensor]:
    """The losses of the last step, on the same scenes again and again or on fresh ones of these classes."""
    optimizer = torch.optim.AdamW(model.parameters(), lr)
    losses = {}
    for step in range(steps):
        losses = model(scenes(class_ids, seed=step if fresh else 0, one_background=one_background))
        optimizer.zero_grad()
        losses["total"].backward()
        optimizer.step()
    return losses


class MeanColours(nn.Module):
    """Locations that see nothing beside themselves: the mean colours of squares of 8 pixels."""

    stride = 8

    def forward(self, images: Tensor) -> Tensor:
        return F.avg_pool2d(images, self.stride)


class MeanBands(nn.Module):
    """Sounds of one cell, which hears how loud each of 16 bands is, against the mean of all."""

    out_channels = 16

    def forward(self, spectra: Tensor) -> Tensor:
        bands = F.adaptive_avg_pool1d(spectra.mean(dim=(1, 3)), self.out_channels)
        return 10 * (bands - bands.mean(dim=1, keepdim=True))[..., None]


def with_plain_senses(model: Any, heads: int = 1) -> Any:
    """The model with locations that see their mean colour alone and sounds that are bands: it learns in milliseconds.

    Locations start as their colours, and sounds as far from white as can be. From other starts losses that take the
    best location stay where a sound is likest a background that all pictures share, which no other picture tells apart.
    """
    with_locations_that_see_themselves_alone(model)
    model.audio_encoder.resnet = MeanBands()
    width = model.audio_encoder.project.out_features
    model.audio_encoder.project = nn.Linear(MeanBands.out_channels, width)
    seen, heard = model.visual_encoder.project, model.audio_encoder.project
    with torch.no_grad():
        colours = torch.eye(width // heads, 3).repeat(heads, 1)
        seen.weight.copy_(colours[..., None, None])
        seen.bias.zero_()
        heard.bias.copy_(-colours.sum(dim=1))
    return model


def with_locations_that_see_themselves_alone(model: Any) -> Any:
    """The model with mean colours in place of its visual ResNet, by any location of which it could learn to tell
    pictures of this size apart, so that where its maps point would be left to the draw of its weights."""
    model.visual_encoder.resnet = MeanColours()
    model.visual_encoder.project = nn.Conv2d(3, model.visual_encoder.project.out_channels, kernel_size=1)
    return model


def assert_maps_learn_to_point(model: Any, num_classes: int) -> None:
    """On scenes of one source, a map finds its unseen square: two and a half times better than chance in the mean."""
    classes = [[class_id] for class_id in range(num_classes)]
    learned(model, classes, steps=60, lr=3e-3, fresh=True)
    unseen = scenes(2 * classes, seed=10**6)
    assert unseen.truth is not None
    localization = model.eval().localize(superpose(unseen), Query.of(unseen))
    chance = unseen.truth.float().mean()
    assert average_precision(localization.maps, unseen.truth).mean() > 2.5 * chance
