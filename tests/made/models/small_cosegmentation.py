"""A small co-segmentation model, and duets to see and to hear for it."""

from __future__ import annotations

import dataclasses

import torch

from cocktail.models.cosegmentation import CoSegmentationConfig
from cocktail.types import NO_CLASS, MixtureBatch
from tests.made.models.small_sound_of_pixels import SMALL as SOUND_OF_PIXELS
from tests.made.models.small_sound_of_pixels import seen_and_heard

NUM_CLASSES = 5
SMALL = CoSegmentationConfig(
    unet_width=4,
    unet_depth=5,
    conv_init_std=0.1,
    input_norm="mixture",
    num_bases=8,
    visual_width=16,
    coef_width=16,
    score_pool="sum",
    resnet_width=4,
    visual_stages=2,
    initial_weights="none",
    front_end=SOUND_OF_PIXELS.front_end,
)
WHOLE_PICTURES = dataclasses.replace(SMALL, segmenter=False, score_pool="mean")


def duets(class_ids: list[list[list[int]]], seed: int = 0) -> MixtureBatch:
    """Mixtures of sources with one class or two each: tones added, and squares of both in one picture."""
    parts = [
        seen_and_heard([[classes[min(place, len(classes) - 1)] for classes in row] for row in class_ids], seed + place)
        for place in range(2)
    ]
    first, second = parts
    labels = torch.zeros(*first.class_ids.shape, NUM_CLASSES, dtype=torch.bool)
    for part in parts:
        labels.scatter_(2, part.class_ids[..., None], True)
    several = labels.sum(dim=2) > 1
    assert first.pictures is not None and second.pictures is not None
    pictures = first.pictures.clone()
    pictures[several] = torch.cat([first.pictures[..., :32, :], second.pictures[..., :32, :]], dim=-2)[several]
    sources = torch.where(several[..., None], first.sources // 2 + second.sources // 2, first.sources)
    return dataclasses.replace(
        first,
        sources=sources,
        pictures=pictures,
        class_ids=first.class_ids.where(~several, NO_CLASS),
        labels=labels,
    )
