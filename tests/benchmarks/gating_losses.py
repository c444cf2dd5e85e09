"""Readings of AVGN's eq. 10: which of them place what they learn, where only the objects tell pictures apart.

    python tests/benchmarks/gating_losses.py [--steps 300]

Small networks learn from fresh pairs of coloured squares and tones, and are tested on an unseen batch of wide pictures.
Prints the mean AP in percent of each reading, beside chance, the squares' share of the picture.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parents[2] / part) for part in (".", "platform")]

import torch
import tyro

from cocktail.audio.mixing import superpose
from cocktail.audio.power_spectrum import PowerSpectrumConfig
from cocktail.metrics.localization import average_precision
from cocktail.models.avgn import AVGNConfig
from cocktail.models.ez_vsl import EZVSLConfig
from cocktail.tasks.localization.mixtures import LocalizedMixtures
from cocktail.types import MixtureBatch, Query
from tests.made.corpora.shapes_and_tones import RATE, scenes

NUM_CLASSES = 5
PAIRS = [[0, 3], [2, 1], [4, 0], [1, 4], [3, 2], [0, 2], [2, 4], [4, 1], [1, 3], [3, 0]]
ENCODERS = {
    "resnet_width": 8,
    "visual_stages": 2,
    "initial_weights": "none",
    "spectrum": PowerSpectrumConfig(sample_rate_hz=RATE),
}


def avgn(**settings: Any) -> AVGNConfig:
    return AVGNConfig(
        width=32,
        depth=1,
        num_heads=2,
        stochastic_depth=0.0,
        localization_loss_weight=0.1,
        **{"negative_gate": "own", "token_init_std": 0.02, **ENCODERS, **settings},
    )


READINGS = {
    "gate own": (avgn(), 3e-3),
    "gate own, tokens differ": (avgn(token_init_std=1.0), 3e-3),
    "gate own, residual": (avgn(gate="residual"), 3e-3),
    "gate own, same class masked": (avgn(mask_same_class=True), 3e-3),
    "gate asked": (avgn(negative_gate="asked"), 3e-3),
    "gate asked, tokens differ": (avgn(negative_gate="asked", token_init_std=1.0), 3e-3),
    "code": (avgn(localization_loss="code"), 3e-3),
    "EZ-VSL": (EZVSLConfig(width=16, **ENCODERS), 1e-3),
}


@dataclass(frozen=True, kw_only=True)
class Arguments:
    steps: int = 300
    """Training steps, of ten pairs each."""


def main(arguments: Arguments) -> None:
    torch.set_num_threads(1)
    for name, (config, learning_rate) in READINGS.items():
        torch.manual_seed(0)
        model = config.build(NUM_CLASSES)
        optimizer = torch.optim.AdamW(model.parameters(), learning_rate)
        losses = {}
        for step in range(arguments.steps):
            losses = model(scenes(PAIRS, seed=step))
            optimizer.zero_grad()
            losses["total"].backward()
            optimizer.step()
        precision, chance = score(model.eval(), scenes(PAIRS, seed=10**6))
        print(
            f"{name:30}AP {precision:5.1f} %, chance {chance:.1f} %, loss {losses['localization'].item():.3f}",
            flush=True,
        )


def score(model: Any, batch: MixtureBatch) -> tuple[float, float]:
    """Mean AP of the wide picture's maps, and the objects' share of it, in percent."""
    assert batch.pictures is not None and batch.truth is not None and batch.has_truth is not None
    pictures = batch.pictures[:, :, 0]
    maps = model.localize(superpose(batch), Query.of(batch)).maps
    truths = LocalizedMixtures(
        mixture_ids=batch.mixture_ids,
        class_ids=batch.class_ids,
        truths=batch.truth,
        has_truth=batch.has_truth,
        num_pictures=pictures.shape[1],
    ).wide_truths
    return 100 * average_precision(maps.expand(truths.shape), truths).mean().item(), 100 * truths.float().mean().item()


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
