"""Localizers with a map a class, each built in milliseconds."""

from __future__ import annotations

from typing import Any

from cocktail.audio.power_spectrum import PowerSpectrumConfig
from cocktail.layers.two_towers import TowersConfig
from cocktail.models.coarse_to_fine import CoarseToFineConfig
from cocktail.models.dsol import DSOLConfig
from cocktail.models.mix_and_localize import MixAndLocalizeConfig
from tests.made.corpora.shapes_and_tones import RATE

SIZES: dict[str, Any] = {
    "width": 16,
    "resnet_width": 8,
    "dilate": False,
    "initial_weights": "none",
    "spectrum": PowerSpectrumConfig(sample_rate_hz=RATE),
}
CLASS_MAPS: dict[str, TowersConfig] = {
    "coarse": CoarseToFineConfig(**SIZES, align_width=8),
    "fine": CoarseToFineConfig(**SIZES, align_width=8, stage="fine"),
    "single": DSOLConfig(**SIZES, mask_threshold=0.5),
    "mixtures": DSOLConfig(**SIZES, mask_threshold=0.5, stage="mixtures"),
    "mix_and_localize": MixAndLocalizeConfig(**SIZES, window_seconds=0.4),
}
"""By stage, of those that learn in stages."""
