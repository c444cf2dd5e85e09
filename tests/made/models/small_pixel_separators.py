"""Separators that find each source by pictures of it, each built in milliseconds, for the scenes of
`small_sound_of_pixels`."""

from __future__ import annotations

from cocktail.models.co_separation import CoSeparationConfig
from cocktail.models.mp_net import MPNetConfig
from tests.made.models.small_sound_of_pixels import SMALL as SOUND_OF_PIXELS

MP_NET = MPNetConfig(**vars(SOUND_OF_PIXELS))
CO_SEPARATION = CoSeparationConfig(
    unet_width=4,
    unet_depth=5,
    conv_init_std=0.1,
    input_norm="mixture",
    vector_width=24,
    cell_width=8,
    picture_side=64,
    resnet_width=4,
    resnet_stages=2,
    initial_weights="none",
    front_end=SOUND_OF_PIXELS.front_end,
)
PIXEL_SEPARATORS = {"sound_of_pixels": SOUND_OF_PIXELS, "mp_net": MP_NET, "co_separation": CO_SEPARATION}
