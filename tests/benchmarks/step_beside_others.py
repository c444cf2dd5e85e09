"""A training step of Conv-TasNet, TDCN++ and Hybrid Demucs beside that of their other public implementations.

    pip install asteroid demucs
    python tests/benchmarks/step_beside_others.py [--seconds 2] [--batch-size 2] [--device cpu]

Each pair has the same sizes, the same batch of noise, Adam, and its own package's loss: forward, loss, backward,
update. Both take turns, and the median turn counts; the ratio is the other's time over ours, so above 1 ours is faster.

- Conv-TasNet at the paper's best sizes: torchaudio's network and our permutation-invariant SI-SDR against asteroid's
  ConvTasNet and PITLossWrapper.
- TDCN++ at FUSS's sizes, four outputs: ours against asteroid's TDConvNetpp between torch's transform and its inverse,
  with the projection onto the mixture and the same wrapper. Asteroid links each repeat with the one before alone, ours
  with all earlier ones, as published; and asteroid's does not run without a second way out of each block (skip_chan),
  which the published network lacks, so that it has more to compute.
- Hybrid Demucs of four stems: torchaudio's network with absolute error against demucs' own HDemucs, mono.

A package that is not installed is left out, and said so. Works without Ray.
"""

from __future__ import annotations

import importlib.util
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parents[2] / "platform")]

import torch
import tyro
from torch import Tensor, nn

from cocktail.audio.mixing import mix
from cocktail.models.conv_tasnet import ConvTasNetConfig
from cocktail.models.hdemucs import HDemucsConfig
from cocktail.models.tdcn import TDCNConfig
from cocktail.types import MixtureBatch

STEMS = ["drums", "bass", "other", "vocals"]
TDCN = TDCNConfig(outputs=4)


@dataclass(frozen=True, kw_only=True)
class Arguments:
    seconds: float = 2.0
    """Length of a mixture, in seconds: at 8 kHz for Conv-TasNet, 16 for TDCN++, 44.1 for Hybrid Demucs."""
    batch_size: int = 2
    """Mixtures in a step."""
    turns: int = 5
    """Turns after the first, which does not count."""
    device: str = "cpu"
    threads: int | None = None
    """Threads on a CPU; None is torch's own number."""


def noise(batch_size: int, num_sources: int, num_samples: int) -> MixtureBatch:
    """Random sounds of the first classes, in order."""
    generator = torch.Generator().manual_seed(0)
    shape = batch_size, num_sources, num_samples
    return MixtureBatch(
        mixture_ids=tuple(map(str, range(batch_size))),
        sources=torch.randint(-8000, 8000, shape, dtype=torch.int16, generator=generator),
        gains=torch.ones(shape[:2]),
        class_ids=torch.arange(num_sources).expand(batch_size, -1),
        present=torch.ones(shape[:2], dtype=torch.bool),
    )


class AsteroidTDCN(nn.Module):
    """Estimates [B, K, T] of mixtures [B, T] by asteroid's network, which add up to these."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.window = nn.Buffer(torch.hann_window(TDCN.n_fft).sqrt())

    def forward(self, mixture: Tensor) -> Tensor:
        form: dict[str, Any] = {"n_fft": TDCN.n_fft, "hop_length": TDCN.hop_length, "window": self.window}
        transform = torch.stft(mixture, **form, return_complex=True)
        masks, weights = self.network(transform.abs())
        apart = torch.istft((transform[:, None] * masks).flatten(0, 1), **form, length=mixture.shape[-1])
        apart = apart.unflatten(0, masks.shape[:2])
        return apart + weights[..., None] * (mixture - apart.sum(dim=1))[:, None]


def conv_tasnet(batch: MixtureBatch) -> Iterator[tuple[str, nn.Module, Callable[[], Tensor]]]:
    """Ours, then asteroid's, with the loss of a step."""
    from asteroid.losses import PITLossWrapper, pairwise_neg_sisdr  # pyright: ignore[reportMissingImports]
    from asteroid.models import ConvTasNet  # pyright: ignore[reportMissingImports]

    ours = ConvTasNetConfig().build(2).to(batch.sources.device)
    yield "Conv-TasNet", ours, lambda: ours(batch)["total"]
    other = ConvTasNet(n_src=2, mask_act="sigmoid").to(batch.sources.device)
    loss = PITLossWrapper(pairwise_neg_sisdr)
    mixture, references = mix(batch)
    yield "asteroid's", other, lambda: loss(other(mixture[:, None]), references)


def tdcn(batch: MixtureBatch) -> Iterator[tuple[str, nn.Module, Callable[[], Tensor]]]:
    """Ours, then asteroid's, with the loss of a step."""
    from asteroid.losses import PITLossWrapper, pairwise_neg_snr  # pyright: ignore[reportMissingImports]
    from asteroid.masknn import TDConvNetpp  # pyright: ignore[reportMissingImports]

    ours = TDCN.build(4).to(batch.sources.device)
    yield "TDCN++", ours, lambda: ours(batch)["total"]
    network = TDConvNetpp(
        TDCN.n_fft // 2 + 1, TDCN.outputs, n_blocks=TDCN.blocks, n_repeats=TDCN.repeats, bn_chan=TDCN.width,
        hid_chan=TDCN.inner_width, skip_chan=TDCN.width, mask_act="sigmoid",
    )  # fmt: skip
    other = AsteroidTDCN(network).to(batch.sources.device)
    loss = PITLossWrapper(pairwise_neg_snr)
    mixture, references = mix(batch)
    yield "asteroid's", other, lambda: loss(other(mixture), references)


def hdemucs(batch: MixtureBatch) -> Iterator[tuple[str, nn.Module, Callable[[], Tensor]]]:
    """Ours, then demucs', with the loss of a step."""
    from demucs.hdemucs import HDemucs  # pyright: ignore[reportMissingImports]

    ours = HDemucsConfig().build(len(STEMS)).to(batch.sources.device)
    yield "Hybrid Demucs", ours, lambda: ours(batch)["total"]
    other = HDemucs(STEMS, audio_channels=1).to(batch.sources.device)
    mixture, references = mix(batch)
    yield "demucs'", other, lambda: (other(mixture[:, None])[:, :, 0] - references).abs().mean()


PAIRS = (("asteroid", 2, 8000, conv_tasnet), ("asteroid", 4, 16000, tdcn), ("demucs", 4, 44100, hdemucs))
"""Package, sources of a mixture, rate in Hz, and the two of each pair."""


def milliseconds(sides: list[tuple[nn.Module, Callable[[], Tensor]]], turns: int, device: torch.device) -> list[float]:
    """Median time of a step of each side, in turn."""
    optimizers = [torch.optim.Adam(model.parameters(), 1e-4) for model, _ in sides]
    taken: list[list[float]] = [[] for _ in sides]
    for turn in range(1 + turns):
        for side, ((_, loss_of), optimizer) in enumerate(zip(sides, optimizers, strict=True)):
            _wait(device)
            begun = time.perf_counter()
            loss = loss_of()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            _wait(device)
            if turn:
                taken[side].append(1e3 * (time.perf_counter() - begun))
            assert loss.isfinite()
    return [statistics.median(times) for times in taken]


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def main(arguments: Arguments) -> None:
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    where = f"{torch.get_num_threads()} threads" if device.type == "cpu" else torch.cuda.get_device_name()
    print(f"{device} ({where}), torch {torch.__version__}, {arguments.batch_size} mixtures of {arguments.seconds:g} s")
    for package, num_sources, rate_hz, pair in PAIRS:
        if importlib.util.find_spec(package) is None:
            print(f"{package} is not installed, and left out: pip install {package}")
            continue
        torch.manual_seed(0)
        batch = noise(arguments.batch_size, num_sources, round(arguments.seconds * rate_hz)).to(device)
        made = list(pair(batch))
        for name, model, _ in made:
            print(f"  {name}: {sum(p.numel() for p in model.parameters()) / 1e6:.2f} million parameters")
        own, other = milliseconds([(model, loss) for _, model, loss in made], arguments.turns, device)
        print(f"{made[0][0]}: {own:.0f} ms a step, {made[1][0]} {other:.0f} ms: {other / own:.2f} times", flush=True)


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
