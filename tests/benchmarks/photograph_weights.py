"""Weights for `--model.initial-weights`, learned from the pictures of a data set: a ResNet-18 that names their classes.

    python tests/benchmarks/photograph_weights.py SHARDS --output WEIGHTS.pth [--width 16] [--minutes 10]

SHARDS are those of jobs/shard_vggsound.py or any others with pictures. The network is that of the localizers' visual
encoders, of the demo's width or, with `--width 64`, of torchvision's, and sees one picture of a training clip a time,
cut and mirrored at random, with its class; sounds are not used. Its file has torchvision's names, so that any model
whose encoder has that width starts from it. Prints the loss, and at the end how many test clips it names by one
picture, with a 95 % interval over recordings, beside the share of the most frequent class.
"""

from __future__ import annotations

import math
import sys
import time
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import Annotated

sys.path[:0] = [str(Path(__file__).resolve().parents[2] / part) for part in (".", "platform")]

import numpy as np
import torch
import tyro
from torch import Tensor, nn
from torch.nn import functional as F

from cocktail.config.evaluation import Evaluation
from cocktail.config.mixing import Mixing
from cocktail.layers.encoders import ImageNetScale
from cocktail.layers.resnet import ResNet18
from cocktail.metrics.intervals import Recordings
from pipelines.mixtures.batches import read_mixtures
from pipelines.mixtures.stream import MixtureStream
from pipelines.plans.evaluation import make_test_list
from pipelines.shards.manifest import Manifest, open_manifest
from pipelines.shards.reader import ClipSource

_TOLD_EVERY = 15.0
"""Seconds between two lines."""


@dataclass(frozen=True, kw_only=True)
class Arguments:
    shards: Annotated[str, tyro.conf.Positional]
    """Folder of shards with pictures, or its URI."""
    output: Path
    """File for the weights."""
    width: int = 16
    """Channels of the first stage; torchvision's and the papers' ResNet-18 has 64."""
    minutes: float = 10.0
    """Time to learn in."""
    batch_size: int = 32
    learning_rate: float = 1e-3
    """Of AdamW, at the start; it falls to zero along half a cosine over the time."""
    picture_side: int = 128
    """Height and width of a picture, in pixels."""
    seed: int = 0
    threads: int = 2


class Namer(nn.Module):
    """Logits [B, C] of the classes of pictures uint8 [B, H, W, 3]: a linear map of the mean over all places."""

    def __init__(self, width: int, num_classes: int) -> None:
        super().__init__()
        self.scale = ImageNetScale()
        self.resnet = ResNet18(width=width)
        self.head = nn.Linear(self.resnet.out_channels, num_classes)

    def forward(self, pictures: Tensor) -> Tensor:
        return self.head(self.resnet(self.scale(pictures, self.head.weight.dtype)).mean(dim=(2, 3)))


def mixing_of(manifest: Manifest, arguments: Arguments) -> Mixing:
    """Single clips with a picture each."""
    rate = manifest.sample_rate_hz
    return Mixing(
        num_sources=1,
        sample_rate_hz=rate,
        segment_samples=3 * rate,
        pictures_per_source=1,
        picture_side=arguments.picture_side,
        picture_margin=1.3,
    )


def learn(manifest: Manifest, arguments: Arguments) -> Namer:
    stream = MixtureStream(
        folder=manifest.folder,
        mixing=mixing_of(manifest, arguments),
        split="train",
        seed=arguments.seed,
        batch_size=arguments.batch_size,
        executor="inline",
    )
    torch.manual_seed(arguments.seed)
    model = Namer(arguments.width, len(manifest.classes)).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    optimizer = torch.optim.AdamW(model.parameters(), arguments.learning_rate, weight_decay=0.05)
    begin = told = time.monotonic()
    losses: list[float] = []
    for step, batch in enumerate(chain.from_iterable(stream.batches(epoch, 0, 0, 1) for epoch in count())):
        spent = (time.monotonic() - begin) / (60 * arguments.minutes)
        if spent >= 1:
            print(f"{step} steps of {arguments.batch_size} pictures, {step * arguments.batch_size} in all", flush=True)
            break
        for group in optimizer.param_groups:
            group["lr"] = arguments.learning_rate * (1 + math.cos(math.pi * spent)) / 2
        assert batch.pictures is not None
        loss = F.cross_entropy(model(batch.pictures[:, 0, 0]), batch.class_ids[:, 0], label_smoothing=0.1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if time.monotonic() - told > _TOLD_EVERY:
            told = time.monotonic()
            print(
                f"step {step + 1}: loss {np.mean(losses):.2f}, {(1 - spent) * arguments.minutes:.1f} minutes left",
                flush=True,
            )
            losses.clear()
    return model.eval()


@torch.no_grad()
def tell_accuracy(model: Namer, manifest: Manifest, arguments: Arguments) -> None:
    evaluation = Evaluation(split="test", num_sources=(1,), num_mixtures=None)
    mixing = mixing_of(manifest, arguments)
    rows = make_test_list(manifest, mixing, evaluation)
    batch = read_mixtures(rows, ClipSource.of(manifest), evaluation.test_mixing(mixing))
    assert batch.pictures is not None and batch.recordings is not None
    classes = batch.class_ids[:, 0]
    named = torch.cat([model(part[:, 0, 0]).argmax(dim=1) for part in batch.pictures.split(arguments.batch_size)])
    right = (named == classes).double().numpy()
    recordings = Recordings(batch.recordings)
    found = recordings.interval_of_share(right[None])
    assert found is not None, recordings.why_none
    most = classes.bincount().max().item() / len(classes)
    print(
        f"test clips named by one picture: {found.mean:.3f} ({found.low:.3f} to {found.high:.3f}) of {len(classes)}; "
        f"most frequent of {len(manifest.classes)} classes: {most:.3f}"
    )


def main(arguments: Arguments) -> None:
    torch.set_num_threads(arguments.threads)
    manifest = open_manifest(arguments.shards)
    model = learn(manifest, arguments)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    torch.save({name: value.contiguous() for name, value in model.resnet.state_dict().items()}, arguments.output)
    tell_accuracy(model, manifest, arguments)
    print(f"{arguments.output}: ResNet-18 of width {arguments.width}")


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
