"""An AVGN that is built in milliseconds, and mixtures with pictures for it."""

from __future__ import annotations

import torch

from cocktail.audio.power_spectrum import PowerSpectrumConfig
from cocktail.config.mixing import Mixing
from cocktail.models.avgn import AVGNConfig
from cocktail.types import MixtureBatch
from tests.made.corpora.shapes_and_tones import RATE, SIDE

SMALL = AVGNConfig(
    width=16,
    resnet_width=8,
    depth=1,
    num_heads=2,
    stochastic_depth=0.0,
    initial_weights="none",
    spectrum=PowerSpectrumConfig(sample_rate_hz=RATE),
)


C = 5


MIXING = Mixing(sample_rate_hz=RATE, segment_samples=2 * RATE, pictures_per_source=1, picture_side=SIDE, num_sources=2)


def pictures_of(batch: MixtureBatch) -> torch.Tensor:
    """The first picture of each source, uint8 [B, K, H, W, 3]."""
    assert batch.pictures is not None
    return batch.pictures[:, :, 0]
