"""What stands between a network and knowing which classes a mixture holds.

    python tests/benchmarks/presence.py SHARDS [--steps 600 2400] [--seeds 0 1 2]

SHARDS are two-source shards at 11,025 Hz, such as the corpus that is made, `embedded/*` in the output folder of
`python jobs/sgn_vggsound.py`. Trained on the demo's mixtures by the presence loss alone, without masks, a budget of
steps each from anew: the token branch of the demo's SGN, and a plain classifier on the same spectrogram; both again
with training sources through random equalisers. Prints micro F1 of presence above 0.5 on mixtures of the clips that
were trained on, and of test clips, with 95 % intervals over recordings and seeds, beside the control that names all
classes each time. What the first lacks is learning; by what the second is below the first, test clips are unlike
those of training.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain, count, pairwise
from pathlib import Path
from typing import Annotated

sys.path[:0] = [str(Path(__file__).resolve().parents[2] / part) for part in (".", "platform")]

import numpy as np
import torch
import tyro
from torch import Tensor, nn

from cocktail.audio.mixing import mix
from cocktail.audio.stft import FrontEnd
from cocktail.config.evaluation import Evaluation
from cocktail.config.mixing import Mixing
from cocktail.layers.classes import classes_among
from cocktail.layers.spectrogram import log_spectrogram
from cocktail.losses.class_constraint import presence_loss
from cocktail.metrics.intervals import Interval, Recordings
from cocktail.models.sgn import SMALL_SGN, SourceVectors
from cocktail.tasks.presence import f1_values
from cocktail.types import MixtureBatch
from pipelines.experiments.benchmarks import SEPARATE_VGGSOUND
from pipelines.mixtures.batches import read_mixtures
from pipelines.mixtures.stream import MixtureStream
from pipelines.plans.evaluation import make_test_list
from pipelines.shards.manifest import Manifest, open_manifest
from pipelines.shards.reader import ClipSource

BATCH, LEARNING_RATE = 8, 1e-3
"""Of the demo's recipe: AdamW, half a cosine."""
MIXING = replace(
    SEPARATE_VGGSOUND.mixing, segment_samples=SEPARATE_VGGSOUND.demo_segment_samples or 0, passes_per_epoch=40
)

FRONT_END = FrontEnd(SMALL_SGN.front_end)


class Branch(nn.Module):
    """SGN's token branch and presence head: logits [B, C] of log spectrograms [B, 1, R, M]."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.vectors = SourceVectors(SMALL_SGN, num_classes)
        self.head = nn.Linear(SMALL_SGN.width, 1)

    def forward(self, spectrogram: Tensor) -> Tensor:
        return self.head(self.vectors(spectrogram)[0]).squeeze(-1)


class Plain(nn.Sequential):
    """Five convolutions that halve, means and maxima over what they leave, one linear map: logits [B, C] of log
    spectrograms [B, 1, R, M]."""

    def __init__(self, num_classes: int) -> None:
        widths = (1, 32, 64, 128, 128, 128)
        layers = (
            (nn.Conv2d(a, b, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU())
            for a, b in pairwise(widths)
        )
        super().__init__(*chain.from_iterable(layers), Pool(), nn.Linear(2 * widths[-1], num_classes))


class Pool(nn.Module):
    """Mean and maximum over all places."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x.mean(dim=(2, 3)), x.amax(dim=(2, 3))], dim=1)


@dataclass(frozen=True, kw_only=True)
class Arm:
    network: Callable[[int], nn.Module]
    equalizer_db: float = 0.0


ARMS = {
    "SGN's branch": Arm(network=Branch),
    "plain classifier": Arm(network=Plain),
    "SGN's branch, equalisers to 8 dB": Arm(network=Branch, equalizer_db=8.0),
    "plain classifier, equalisers to 8 dB": Arm(network=Plain, equalizer_db=8.0),
}


@dataclass(frozen=True, kw_only=True)
class Arguments:
    shards: Annotated[str, tyro.conf.Positional]
    """Folder of shards, or its URI."""
    steps: tuple[int, ...] = (600, 2400)
    """Budgets of training steps of 8 mixtures, each trained from anew."""
    seeds: tuple[int, ...] = (0, 1, 2)
    arms: tuple[str, ...] = field(default_factory=lambda: tuple(ARMS))
    mixtures: int = 100
    """Mixtures that are tested on, of either split."""
    threads: int = 1


@dataclass(frozen=True, kw_only=True)
class Tested:
    """Mixtures to test on."""

    spectrograms: Tensor
    """Log spectrograms [M, 1, R, frames]."""
    truth: np.ndarray
    """Which classes there are, bool [M, C]."""
    recordings: Recordings

    @classmethod
    def of(cls, manifest: Manifest, split: str, mixtures: int) -> Tested:
        evaluation = Evaluation(split=split, num_mixtures=mixtures)
        rows = make_test_list(manifest, MIXING, evaluation)
        batch = read_mixtures(rows, ClipSource.of(manifest), evaluation.test_mixing(MIXING))
        assert batch.recordings is not None
        return cls(
            spectrograms=spectrograms(batch),
            truth=truth(batch, len(manifest.classes)).numpy(),
            recordings=Recordings(batch.recordings),
        )

    @torch.no_grad()
    def named(self, model: nn.Module) -> np.ndarray:
        return (model(self.spectrograms) > 0).numpy()

    def f1(self, named: np.ndarray) -> Interval:
        """Of what is named, bool [seeds, M, C]."""
        found = self.recordings.interval_of_share(np.stack([f1_values(each, self.truth)[0] for each in named]))
        assert found is not None, self.recordings.why_none
        return found


@torch.no_grad()
def spectrograms(batch: MixtureBatch) -> Tensor:
    return log_spectrogram(FRONT_END.warp(FRONT_END.stft(mix(batch)[0]).abs())[:, None], SMALL_SGN.input_norm)


def truth(batch: MixtureBatch, num_classes: int) -> Tensor:
    return classes_among(batch.class_ids, batch.present, num_classes)


def trained(arm: Arm, manifest: Manifest, *, steps: int, seed: int) -> nn.Module:
    mixing: Mixing = replace(MIXING, equalizer_db=arm.equalizer_db)
    stream = MixtureStream(
        folder=manifest.folder, mixing=mixing, split="train", seed=seed, batch_size=BATCH, executor="inline"
    )
    num_classes = len(manifest.classes)
    torch.manual_seed(seed)
    model = arm.network(num_classes).train()
    optimizer = torch.optim.AdamW(model.parameters(), LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, partial(half_cosine, steps=steps))
    batches = chain.from_iterable(stream.batches(epoch, 0, 0, 1) for epoch in count())
    for _, batch in zip(range(steps), batches, strict=False):
        loss = presence_loss(model(spectrograms(batch)), truth(batch, num_classes))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.eval()


def half_cosine(step: int, *, steps: int) -> float:
    return (1 + math.cos(math.pi * step / steps)) / 2


def cell(interval: Interval) -> str:
    return f"{interval.mean:.2f} ({interval.low:.2f} to {interval.high:.2f})"


def main(arguments: Arguments) -> None:
    torch.set_num_threads(arguments.threads)
    manifest = open_manifest(arguments.shards)
    sets = [Tested.of(manifest, split, arguments.mixtures) for split in ("train", "test")]
    print(f"torch {torch.__version__}, seeds {' '.join(map(str, arguments.seeds))}, batches of {BATCH}")
    print("| | steps | micro F1, clips of training | micro F1, test clips | minutes a run |")
    print("|---|---:|---:|---:|---:|")
    everything = [cell(each.f1(np.ones((1, *each.truth.shape), bool))) for each in sets]
    print(f"| all classes | | {' | '.join(everything)} | |", flush=True)
    for name in arguments.arms:
        for steps in arguments.steps:
            begin = time.perf_counter()
            models = [trained(ARMS[name], manifest, steps=steps, seed=seed) for seed in arguments.seeds]
            minutes = (time.perf_counter() - begin) / 60 / len(models)
            cells = [cell(each.f1(np.stack([each.named(model) for model in models]))) for each in sets]
            print(f"| {name} | {steps} | {' | '.join(cells)} | {minutes:.1f} |", flush=True)


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
