"""Localizers with one map for all that is heard, each built in milliseconds."""

from __future__ import annotations

from typing import Any

from cocktail.audio.power_spectrum import PowerSpectrumConfig
from cocktail.layers.two_towers import TowersConfig
from cocktail.models.attention10k import Attention10kConfig
from cocktail.models.dmc import DMCConfig
from cocktail.models.ez_vsl import EZVSLConfig
from cocktail.models.lvs import LVSConfig
from cocktail.models.ots import OTSConfig
from cocktail.models.slavc import SLAVCConfig
from tests.made.corpora.shapes_and_tones import RATE

SIZES: dict[str, Any] = {
    "width": 16,
    "resnet_width": 8,
    "visual_stages": 2,
    "dilate": False,
    "initial_weights": "none",
    "spectrum": PowerSpectrumConfig(sample_rate_hz=RATE),
}
LOCALIZERS: dict[str, TowersConfig] = {
    "attention10k": Attention10kConfig(**SIZES),
    "ots": OTSConfig(**SIZES),
    "dmc": DMCConfig(**SIZES),
    "lvs": LVSConfig(**SIZES),
    "slavc": SLAVCConfig(**SIZES, visual_dropout=0.5),
    "ez_vsl": EZVSLConfig(**SIZES),
}
