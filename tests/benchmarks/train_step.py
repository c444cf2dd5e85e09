"""Time that mixing channels before upsamples saves: in U-Net and mask head alone, and in SGN's whole training step.

    python tests/benchmarks/train_step.py                                      # on this machine's CPUs
    python tests/benchmarks/train_step.py --device cuda --batch-size 80 --precisions float32 bfloat16 --compiled

The plain form is what the paper writes: K maps at full resolution are multiplied with the source vectors. The folded
head computes the same from 9 N products at half the resolution; the mixed form, which is the one in use, also mixes
channels before the other upsamples where that pays. All have the same parameters and values. Forms take turns, and
each figure is the median of the rounds. A step is the training loop's own, with its guard, gradient norm and update.
The device's rate is that of a large matrix product in the same precision, measured here; the share of it that a step
reaches counts the multiplications that the form needs. Bytes are those of all tensors that operators read and write,
as if nothing were cached or fused, beside the rate of a large copy. Needs neither Ray nor data.
"""

from __future__ import annotations

import itertools
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

sys.path[:0] = [str(Path(__file__).resolve().parents[2] / part) for part in (".", "platform")]

import torch
import tyro
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from cocktail.config.training import Training
from cocktail.layers.upsampling import plain_upsample_conv
from cocktail.models.sgn import SGN, SGNConfig
from cocktail.train.loop import Steps
from cocktail.train.update import Update
from cocktail.train.worker import Worker
from cocktail.types import MixtureBatch
from tests.made.models.plain_head import PlainMaskHead

Precision = Literal["float32", "bfloat16"]
Form = Literal["plain", "folded", "mixed"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    device: str = "cpu"
    batch_size: int = 2
    """Mixtures in a step."""
    num_sources: int = 2
    num_classes: int = 11
    width: int = 256
    """K, the number of feature maps, and of channels of a source vector."""
    rounds: int = 5
    """Measurements of each variant, after one that is not counted."""
    precisions: tuple[Precision, ...] = ("float32",)
    layouts: tuple[Literal["channels_last", "contiguous"], ...] = ("channels_last",)
    forms: tuple[Form, ...] = ("plain", "folded", "mixed")
    compiled: bool = False
    """Measure with torch.compile, too."""
    threads: int | None = None
    """Threads on a CPU; None leaves torch's choice."""


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A form of the network, and how it is run."""

    form: Form
    precision: Precision
    layout: str
    compiled: bool

    def __str__(self) -> str:
        return f"{self.form:6}  {self.precision:8}  {self.layout:13}  {'compiled' if self.compiled else 'eager':8}"


class Runner:
    """A variant's network on the device, with what is timed of it."""

    def __init__(self, settings: Settings, variant: Variant) -> None:
        self.variant = variant
        self.device = torch.device(settings.device)
        torch.manual_seed(0)
        self.model = SGN(SGNConfig(width=settings.width), settings.num_classes)
        if variant.form == "plain":
            self.model.mask_head = PlainMaskHead.of(self.model.mask_head)
        if variant.form != "mixed":
            self.model.unet.upsample_conv = plain_upsample_conv
        layout = getattr(torch, "channels_last" if variant.layout == "channels_last" else "contiguous_format")
        self.model.to(self.device).to(memory_format=layout)  # pyright: ignore[reportCallIssue]
        self.model.train()
        worker = Worker(device=self.device)
        training = Training(batch_size=settings.batch_size)
        dtype = torch.bfloat16 if variant.precision == "bfloat16" else None
        self.update = Update(self.model, training, worker)
        self.steps = Steps(self.model, training, worker, dtype, 0)
        self.batch = noise(settings)
        B, N, K = settings.batch_size, settings.num_sources, settings.width
        self.spectrogram = torch.randn(B, 1, 256, 256, device=self.device).contiguous(memory_format=layout)
        self.vectors = torch.randn(B, N, K, device=self.device, requires_grad=True)
        self.masks: Callable[[], Tensor] = self._masks
        if variant.compiled:
            self.model.compile()
            self.masks = torch.compile(self._masks)

    def _masks(self) -> Tensor:
        return self.model.mask_head(self.model.unet(self.spectrogram), self.vectors)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.variant.precision == "bfloat16")

    def unet_and_head(self) -> None:
        """Forward and backward of what makes the masks."""
        self.model.zero_grad(set_to_none=True)
        with self._autocast():
            logits = self.masks()
        logits.float().square().mean().backward()

    def step(self) -> None:
        """A training step: mixing, transforms, network, losses, gradients, guard, update."""
        self.steps.take(0, self.batch, self.update)

    def seconds(self, run: Callable[[], None]) -> float:
        """Seconds of one call, all of it done."""
        begin = time.perf_counter()
        run()
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - begin

    def flop(self) -> float:
        """Floating point operations of a training step's products and convolutions."""
        with FlopCounterMode(display=False) as counter:
            self.step()
        return counter.get_total_flops()

    def bytes_moved(self) -> int:
        """Bytes that the operators of a training step read and write."""
        with BytesMoved() as counter:
            self.step()
        return counter.total

    def peak_gib(self) -> float:
        """GPU memory at most during a step; not a number on a CPU."""
        if self.device.type != "cuda":
            return float("nan")
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        self.step()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() / 2**30


class BytesMoved(TorchDispatchMode):
    """Counts the bytes of tensors that operators take and give; views, which move nothing, are left out."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if not func.is_view:
            tensors = [leaf for leaf in tree_leaves((args, kwargs, out)) if isinstance(leaf, Tensor)]
            self.total += sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        return out


def noise(settings: Settings) -> MixtureBatch:
    """A batch of random sound."""
    B, N = settings.batch_size, settings.num_sources
    batch = MixtureBatch(
        mixture_ids=tuple(map(str, range(B))),
        sources=torch.randint(-8000, 8000, (B, N, 65535), dtype=torch.int16),
        gains=torch.ones(B, N),
        class_ids=torch.stack([torch.randperm(settings.num_classes)[:N] for _ in range(B)]),
        present=torch.ones(B, N, dtype=torch.bool),
    )
    return batch.to(settings.device)


def matrix_rate(settings: Settings, precision: Precision) -> float:
    """FLOP a second of a product of large square matrices."""
    cuda = settings.device.startswith("cuda")
    size = 8192 if cuda else 2048
    a, b = (torch.randn(size, size, device=settings.device, dtype=getattr(torch, precision)) for _ in range(2))
    times = []
    for _ in range(6):
        begin = time.perf_counter()
        torch.matmul(a, b)
        if cuda:
            torch.cuda.synchronize()
        times.append(time.perf_counter() - begin)
    return 2 * size**3 / min(times)


def copy_rate(settings: Settings) -> float:
    """Bytes a second that a copy of a large tensor reads and writes."""
    cuda = settings.device.startswith("cuda")
    source = torch.ones(1 << (30 if cuda else 27), device=settings.device)
    target = torch.empty_like(source)
    times = []
    for _ in range(6):
        begin = time.perf_counter()
        target.copy_(source)
        if cuda:
            torch.cuda.synchronize()
        times.append(time.perf_counter() - begin)
    return 2 * source.numel() * source.element_size() / min(times)


def main(settings: Settings) -> None:
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    name = torch.cuda.get_device_name() if settings.device.startswith("cuda") else f"{torch.get_num_threads()} threads"
    print(
        f"{settings.device} ({name}), batch {settings.batch_size}, {settings.num_sources} sources, K {settings.width}"
    )
    rates = {precision: matrix_rate(settings, precision) for precision in settings.precisions}
    for precision, rate in rates.items():
        print(f"matrix product in {precision}: {rate / 1e12:.3f} TFLOP/s")
    copying = copy_rate(settings)
    print(f"copy: {copying / 1e9:.1f} GB/s")
    eager_or_compiled = (False, True) if settings.compiled else (False,)
    choices = itertools.product(eager_or_compiled, settings.precisions, settings.layouts)
    for compiled, precision, layout in choices:
        pair = [
            Runner(settings, Variant(form=form, precision=precision, layout=layout, compiled=compiled))
            for form in settings.forms
        ]
        flops = [runner.flop() for runner in pair] if not compiled else [0.0] * len(pair)
        moved = [runner.bytes_moved() for runner in pair] if not compiled else [0] * len(pair)
        times: dict[tuple[int, str], list[float]] = {}
        for turn in range(settings.rounds + 1):
            for number, runner in enumerate(pair):
                for what in ("unet_and_head", "step"):
                    seconds = runner.seconds(getattr(runner, what))
                    if turn:
                        times.setdefault((number, what), []).append(seconds)
        medians = {key: statistics.median(values) for key, values in times.items()}
        for number, runner in enumerate(pair):
            heads, steps = medians[number, "unet_and_head"], medians[number, "step"]
            share = ""
            if flops[number]:
                share = f", {flops[number] / steps / 1e12:.3f} TFLOP/s ({flops[number] / steps / rates[precision]:.1%})"
                share += f", {moved[number] / steps / 1e9:.1f} GB/s ({moved[number] / steps / copying:.0%} of a copy)"
            memory = f", {runner.peak_gib():5.1f} GiB" if settings.device.startswith("cuda") else ""
            print(
                f"{runner.variant} U-Net and head {heads * 1e3:8.1f} ms ({medians[0, 'unet_and_head'] / heads:4.2f}x)  "
                f"step {steps * 1e3:8.1f} ms ({medians[0, 'step'] / steps:4.2f}x), "
                f"{settings.batch_size / steps:6.1f} mixtures/s{share}{memory}",
                flush=True,
            )


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
