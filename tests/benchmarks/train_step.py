"""Time that mixing channels before upsamples saves: in U-Net and mask head alone, and in SGN's whole training step.

    python tests/benchmarks/train_step.py                                      # on this machine's CPUs
    python tests/benchmarks/train_step.py --device cuda --batch-size 80 --precisions float32 bfloat16 --compiled

The plain form is what the paper writes: K maps at full resolution are multiplied with the source vectors. The folded
head computes the same from 9 N products at half the resolution; the mixed form, which is the one in use, also mixes
channels before the other upsamples where that pays. All have the same parameters and values. Forms take turns, and
each figure is the median of the rounds. A step is the training loop's own, with its guard, gradient norm and update.
The device's rate is the best that a large matrix product reached, in the same precision and on as many threads, of one
in each round, beside the steps: a rate that is measured once, before them, is that of a busy or cold moment, and steps
then reach more than all of it. The share of it that a step reaches counts the multiplications that the form needs.
Bytes are those of all tensors that operators read and write, as if nothing were cached or fused, beside the rate of a
large copy. Needs neither Ray nor data.
"""

from __future__ import annotations

import itertools
import statistics
import sys
import time
from collections.abc import Callable, Sequence
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
from cocktail.numerics.compiling import compile_network
from cocktail.numerics.precision import use_tf32
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
            compile_network(self.model)
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


class Peak:
    """The best rate that some work has reached so far, of a device that others may slow down at any moment."""

    def __init__(self, run: Callable[[], None], amount: float, warm_up: int = 3) -> None:
        """`run` does the work, all of it, and `amount` is how much that is."""
        self._run, self._amount, self._best = run, amount, float("inf")
        for _ in range(warm_up):
            run()

    def measure(self) -> None:
        """Do the work once more."""
        begin = time.perf_counter()
        self._run()
        self._best = min(self._best, time.perf_counter() - begin)

    @property
    def rate(self) -> float:
        """Amount a second."""
        return self._amount / self._best


def matrix_peak(settings: Settings, precision: Precision) -> Peak:
    """FLOP a second of a product of large square matrices."""
    cuda = settings.device.startswith("cuda")
    size = 8192 if cuda else 2048
    a, b = (torch.randn(size, size, device=settings.device, dtype=getattr(torch, precision)) for _ in range(2))

    def multiply() -> None:
        torch.matmul(a, b)
        if cuda:
            torch.cuda.synchronize()

    return Peak(multiply, 2 * size**3)


def copy_peak(settings: Settings) -> Peak:
    """Bytes a second that a copy of a large tensor reads and writes."""
    cuda = settings.device.startswith("cuda")
    source = torch.ones(1 << (30 if cuda else 27), device=settings.device)
    target = torch.empty_like(source)

    def copy() -> None:
        target.copy_(source)
        if cuda:
            torch.cuda.synchronize()

    return Peak(copy, 2 * source.numel() * source.element_size())


@dataclass(frozen=True, kw_only=True)
class Timed:
    """What was measured of a variant."""

    runner: Runner
    flop: float
    """Of a step; 0 where it cannot be counted."""
    bytes_moved: int
    seconds: dict[str, list[float]]
    """Of U-Net and head, and of a step, by round."""

    def median(self, what: str) -> float:
        return statistics.median(self.seconds[what])


def measure(
    settings: Settings, compiled: bool, precision: Precision, layout: str, peaks: Sequence[Peak]
) -> list[Timed]:
    """All forms in turn, and the peaks beside them in each round."""
    timed: list[Timed] = []
    for form in settings.forms:
        runner = Runner(settings, Variant(form=form, precision=precision, layout=layout, compiled=compiled))
        counted = (0.0, 0) if compiled else (runner.flop(), runner.bytes_moved())
        timed.append(Timed(runner=runner, flop=counted[0], bytes_moved=counted[1], seconds={}))
    for turn in range(settings.rounds + 1):
        for peak in peaks:
            peak.measure()
        for each in timed:
            for what in ("unet_and_head", "step"):
                seconds = each.runner.seconds(getattr(each.runner, what))
                if turn:
                    each.seconds.setdefault(what, []).append(seconds)
    return timed


def told(each: Timed, first: Timed, settings: Settings, product: Peak, copy: Peak) -> str:
    """A variant's line, beside the first form's."""
    heads, step = each.median("unet_and_head"), each.median("step")
    share = ""
    if each.flop:
        share = f", {each.flop / step / 1e12:.3f} TFLOP/s ({each.flop / step / product.rate:.1%} of the product)"
        share += f", {each.bytes_moved / step / 1e9:.1f} GB/s ({each.bytes_moved / step / copy.rate:.0%} of a copy)"
    memory = f", {each.runner.peak_gib():5.1f} GiB" if settings.device.startswith("cuda") else ""
    return (
        f"{each.runner.variant} U-Net and head {heads * 1e3:8.1f} ms ({first.median('unet_and_head') / heads:4.2f}x)  "
        f"step {step * 1e3:8.1f} ms ({first.median('step') / step:4.2f}x), "
        f"{settings.batch_size / step:6.1f} mixtures/s{share}{memory}"
    )


def main(settings: Settings) -> None:
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    use_tf32(False)
    name = torch.cuda.get_device_name() if settings.device.startswith("cuda") else f"{torch.get_num_threads()} threads"
    print(
        f"{settings.device} ({name}), batch {settings.batch_size}, {settings.num_sources} sources, K {settings.width}"
    )
    copy = copy_peak(settings)
    products = {precision: matrix_peak(settings, precision) for precision in settings.precisions}
    eager_or_compiled = (False, True) if settings.compiled else (False,)
    for compiled, precision, layout in itertools.product(eager_or_compiled, settings.precisions, settings.layouts):
        product = products[precision]
        timed = measure(settings, compiled, precision, layout, (product, copy))
        print(f"product in {precision}: {product.rate / 1e12:.3f} TFLOP/s; copy: {copy.rate / 1e9:.1f} GB/s")
        for each in timed:
            print(told(each, timed[0], settings, product, copy), flush=True)


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
