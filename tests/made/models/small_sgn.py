"""An SGN that is built in milliseconds, and mixtures of tones for it."""

from __future__ import annotations

import math

import torch

from cocktail.audio.stft import FrontEndConfig
from cocktail.models.sgn import SGNConfig
from cocktail.types import MixtureBatch

SAMPLES = 64 * 64 - 1
SMALL = SGNConfig(
    width=32,
    depth=2,
    num_heads=4,
    unet_width=8,
    unet_depth=6,
    num_frames=64,
    stochastic_depth=0.0,
    front_end=FrontEndConfig(n_fft=254, hop_length=64, num_rows=64),
)


def tones(class_ids: list[list[int]], seed: int = 0) -> MixtureBatch:
    """Mixtures of steady tones, class c at 200 (c + 1) Hz for a rate of 4 kHz."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.tensor(class_ids)
    phase = torch.rand(*ids.shape, 1, generator=generator) * 2 * math.pi
    time = torch.arange(SAMPLES) / 4000
    wave = torch.sin(2 * math.pi * 200 * (ids[..., None] + 1) * time + phase)
    return MixtureBatch(
        mixture_ids=tuple(str(n) for n in range(len(ids))),
        sources=(wave * 16000).to(torch.int16),
        gains=torch.ones(ids.shape),
        class_ids=ids,
        present=ids >= 0,
    )
