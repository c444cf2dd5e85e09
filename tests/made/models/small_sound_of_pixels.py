"""A Sound of Pixels that is built in milliseconds, and mixtures to see and to hear for it."""

from __future__ import annotations

import dataclasses

from cocktail.audio.stft import FrontEndConfig
from cocktail.config.mixing import Mixing
from cocktail.models.sound_of_pixels import SoundOfPixelsConfig
from cocktail.types import MixtureBatch
from tests.made.corpora.shapes_and_tones import SIDE, scenes

SAMPLES = 64 * 64 - 1
SMALL = SoundOfPixelsConfig(
    num_maps=8,
    unet_width=4,
    unet_depth=5,
    conv_init_std=0.02,
    input_norm="mixture",
    resnet_width=4,
    visual_stages=2,
    initial_weights="none",
    front_end=FrontEndConfig(n_fft=254, hop_length=64, num_rows=64),
)
MIXING = Mixing(sample_rate_hz=2000, segment_samples=SAMPLES, pictures_per_source=1, picture_side=SIDE)
"""Mixtures as the scenes below, but for the rate, of which these are only one second."""


def seen_and_heard(class_ids: list[list[int]], seed: int = 0) -> MixtureBatch:
    """Scenes of 64 frames; NO_CLASS is a source that is not there, silent and black."""
    batch = scenes([[max(class_id, 0) for class_id in row] for row in class_ids], seed)
    ids = batch.class_ids.new_tensor(class_ids)
    present = ids >= 0
    assert batch.pictures is not None
    return dataclasses.replace(
        batch,
        sources=batch.sources[..., :SAMPLES] * present[..., None],
        pictures=batch.pictures * present[..., None, None, None, None],
        class_ids=ids,
        present=present,
    )
