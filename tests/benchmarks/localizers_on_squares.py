"""All localizers where only the objects tell pictures apart: which of them place what they learn.

    python tests/benchmarks/localizers_on_squares.py [--steps 300] [--seeds 0 1 2] [--systems AVGN EZ-VSL ...]

Small networks of one size learn from fresh coloured squares and tones on noise, no two pictures alike, for as many
steps and squares each: ten pairs a step, or the same twenty squares by themselves where a system learns from single
sources. Each is trained at every one of `--learning-rates`, and the rate with the highest AP on scenes for validation
is kept. Prints the mean AP in percent on other scenes, of single sources and of wide pairs, with 95 % intervals over
scenes and seeds, beside the controls that hear nothing. A system with one map for all it hears is scored with that map
against each source of a pair.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parents[2] / part) for part in (".", "platform")]

import numpy as np
import torch
import tyro
from torch import Tensor

from cocktail.audio.mixing import superpose
from cocktail.audio.power_spectrum import PowerSpectrumConfig
from cocktail.layers.two_towers import TowersConfig
from cocktail.metrics.intervals import Interval, Recordings
from cocktail.metrics.localization import average_precision, centred_box, constant_map
from cocktail.models.attention10k import Attention10kConfig
from cocktail.models.avgn import AVGNConfig
from cocktail.models.coarse_to_fine import CoarseToFineConfig
from cocktail.models.dmc import DMCConfig
from cocktail.models.dsol import DSOLConfig
from cocktail.models.ez_vsl import EZVSLConfig
from cocktail.models.lvs import LVSConfig
from cocktail.models.mix_and_localize import MixAndLocalizeConfig
from cocktail.models.ots import OTSConfig
from cocktail.models.slavc import SLAVCConfig
from cocktail.tasks.localization.mixtures import LocalizedMixtures
from cocktail.types import Following, MixtureBatch, Query
from tests.made.corpora.shapes_and_tones import RATE, SIDE, scenes

NUM_CLASSES = 5
PAIRS = [[0, 3], [2, 1], [4, 0], [1, 4], [3, 2], [0, 2], [2, 4], [4, 1], [1, 3], [3, 0]]
SINGLES = [[class_id] for pair in PAIRS for class_id in pair]
VALIDATION, TEST = 10**8, 2 * 10**8
"""Seeds of scenes, far from those of training."""
SIZES: dict[str, Any] = {
    "width": 32,
    "resnet_width": 8,
    "visual_stages": 2,
    "dilate": False,
    "initial_weights": "none",
    "spectrum": PowerSpectrumConfig(sample_rate_hz=RATE),
}


@dataclass(frozen=True, kw_only=True)
class System:
    stages: tuple[TowersConfig, ...]
    """Configurations, one after the other, of which each goes on with the weights of the one before."""
    of_pairs: bool
    """Whether it learns from pairs, or from single sources."""


def avgn(**settings: Any) -> System:
    small = {"depth": 1, "num_heads": 2, "stochastic_depth": 0.0, "localization_loss_weight": 0.1}
    return System(stages=(AVGNConfig(**{**SIZES, **small, **settings}),), of_pairs=True)


def of_one(config: TowersConfig) -> System:
    return System(stages=(config,), of_pairs=False)


SYSTEMS = {
    "AVGN": avgn(),
    "Attention10k": of_one(Attention10kConfig(**SIZES)),
    "OTS": of_one(OTSConfig(**SIZES)),
    "DMC": of_one(DMCConfig(**SIZES)),
    "CoarsetoFine": System(
        stages=tuple(CoarseToFineConfig(**SIZES, align_width=16, stage=stage) for stage in ("coarse", "fine")),
        of_pairs=True,
    ),
    "LVS": of_one(LVSConfig(**SIZES)),
    "EZ-VSL": of_one(EZVSLConfig(**SIZES)),
    "SLAVC": of_one(SLAVCConfig(**SIZES, visual_dropout=0.5, momentum=0.99)),
    "Mix-and-Localize": System(stages=(MixAndLocalizeConfig(**SIZES, window_seconds=0.4),), of_pairs=True),
    "DSOL": System(
        stages=tuple(DSOLConfig(**SIZES, mask_threshold=0.5, stage=stage) for stage in ("single", "mixtures")),
        of_pairs=True,
    ),
    "AVGN, gate own": avgn(negative_gate="own"),
    "AVGN, gate own, tokens at 0.02": avgn(negative_gate="own", token_init_std=0.02),
    "AVGN, gate asked, tokens at 0.02": avgn(token_init_std=0.02),
    "AVGN, residual gate": avgn(gate="residual"),
    "AVGN, same class masked": avgn(mask_same_class=True),
    "AVGN, code": avgn(localization_loss="code"),
    "EZ-VSL, trained on pairs": System(stages=(EZVSLConfig(**SIZES),), of_pairs=True),
}


@dataclass(frozen=True, kw_only=True)
class Arguments:
    steps: int = 300
    """Training steps, shared among the stages of a system that has several."""
    seeds: tuple[int, ...] = (0, 1, 2)
    learning_rates: tuple[float, ...] = (1e-3, 3e-3)
    """Rates of AdamW."""
    systems: tuple[str, ...] = field(default_factory=lambda: tuple(SYSTEMS))
    test_rounds: int = 6
    """Test scenes: so many times ten pairs, and as many single sources."""
    threads: int = 1


def trained(system: System, steps: int, seed: int, learning_rate: float) -> Any:
    """A network of the system after its stages."""
    weights: dict[str, Tensor] | None = None
    model: Any = None
    for number, config in enumerate(system.stages):
        torch.manual_seed(seed)
        model = config.build(NUM_CLASSES).train()
        if weights is not None:
            model.load_state_dict(weights)
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], learning_rate)
        share = steps // len(system.stages)
        for step in range(number * share, (number + 1) * share):
            loss = model(scenes(PAIRS if system.of_pairs else SINGLES, seed=seed * 10**6 + step))["total"]
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            following: object = model
            if isinstance(following, Following):
                following.follow()
        weights = model.state_dict()
    return model.eval()


def truths_of(batch: MixtureBatch) -> Tensor:
    """Truth of each source over the wide picture, bool [B, N, H, N W]."""
    assert batch.truth is not None and batch.has_truth is not None
    return LocalizedMixtures(
        mixture_ids=batch.mixture_ids,
        class_ids=batch.class_ids,
        truths=batch.truth,
        has_truth=batch.has_truth,
        num_pictures=batch.truth.shape[1],
    ).wide_truths


@torch.no_grad()
def precisions(model: Any, batches: Sequence[MixtureBatch]) -> np.ndarray:
    """AP of each mixture, the mean over its sources, in percent, float64 [M]."""
    of_all = []
    for batch in batches:
        truths = truths_of(batch)
        maps = model.localize(superpose(batch), replace(Query.of(batch), alternatives=False)).maps
        of_all.append(100 * average_precision(maps.expand(truths.shape), truths).mean(dim=1))
    return torch.cat(of_all).double().numpy()


def control(name: str, batches: Sequence[MixtureBatch]) -> np.ndarray:
    """As `precisions`, of a map that is the same whatever sounds; that of wide pictures is a map for each, side by
    side."""
    of_all = []
    for batch in batches:
        truths = truths_of(batch)
        one = centred_box(SIDE, SIDE) if name == "centred box" else constant_map(SIDE, SIDE)
        maps = torch.cat([one] * (truths.shape[-1] // SIDE), dim=-1).expand(truths.shape)
        of_all.append(100 * average_precision(maps, truths).mean(dim=1))
    return torch.cat(of_all).double().numpy()


def interval(values: np.ndarray) -> Interval:
    """Of values [S, M] over scenes, each a recording of its own, and seeds."""
    found = Recordings([[str(number)] for number in range(values.shape[1])]).interval(values)
    assert found is not None
    return found


def line(name: str, cells: Sequence[np.ndarray], above: np.ndarray | None, rates: str = "") -> str:
    intervals = [interval(values).within(0, 100) for values in cells]
    words = [f"{each.mean:.1f} ({each.low:.1f} to {each.high:.1f})" for each in intervals]
    less = None if above is None else interval(above)
    words.append("" if less is None else f"{less.mean:+.1f} ({less.low:+.1f} to {less.high:+.1f})")
    return f"| {name} | {' | '.join(words)} | {rates} |"


def main(arguments: Arguments) -> None:
    torch.set_num_threads(arguments.threads)
    singles, pairs = (
        [scenes(classes, seed=TEST + number) for number in range(arguments.test_rounds)] for classes in (SINGLES, PAIRS)
    )
    singles = [batch.rows(0, 10) for batch in singles]
    held_out = {of_pairs: [scenes(PAIRS if of_pairs else SINGLES, seed=VALIDATION)] for of_pairs in (False, True)}
    box = control("centred box", singles)
    print(f"torch {torch.__version__}, {arguments.steps} steps, seeds {' '.join(map(str, arguments.seeds))}")
    print("| | AP, single | AP, two, wide | single, above the centred box | learning rates kept |")
    print("|---|---:|---:|---:|---|")
    for name in ("centred box", "constant map"):
        heard = [control(name, batches)[None] for batches in (singles, pairs)]
        print(line(name, heard, None if name == "centred box" else heard[0] - box))
    for name in arguments.systems:
        system = SYSTEMS[name]
        of_singles, of_pairs, kept = [], [], []
        for seed in arguments.seeds:
            models = {rate: trained(system, arguments.steps, seed, rate) for rate in arguments.learning_rates}
            best = max(models, key=lambda rate: precisions(models[rate], held_out[system.of_pairs]).mean())
            of_singles.append(precisions(models[best], singles))
            of_pairs.append(precisions(models[best], pairs))
            kept.append(f"{best:g}")
        print(
            line(name, (np.stack(of_singles), np.stack(of_pairs)), np.stack(of_singles) - box, ", ".join(kept)),
            flush=True,
        )


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
