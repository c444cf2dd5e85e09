"""A training step of every model on a CPU or a GPU: the same losses on both, milliseconds, memory, precisions.

    python tests/benchmarks/step_of_each_model.py --device cuda [--size paper] [--precisions float32 bfloat16]

Needs no Ray. Batches are random sound and pictures in the shapes of a model's own recipe. With a GPU, the loss and the
length of the gradient of each model's small network are compared with a CPU's first, on the same weights and batch;
networks that draw random numbers are set to draw none, as the two devices draw different ones.
"""

from __future__ import annotations

import dataclasses
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

sys.path[:0] = [str(Path(__file__).resolve().parents[2] / part) for part in (".", "platform")]

import torch
import tyro
from torch import nn

from cocktail.config.experiment import Experiment
from cocktail.models.attention10k import SMALL_ATTENTION10K, Attention10kConfig
from cocktail.models.avgn import SMALL_AVGN, AVGNConfig
from cocktail.models.avsa_sep import SMALL_AVSA_SEP, AVSASepConfig
from cocktail.models.co_separation import SMALL_CO_SEPARATION, CoSeparationConfig
from cocktail.models.coarse_to_fine import SMALL_COARSE_TO_FINE, CoarseToFineConfig
from cocktail.models.conv_tasnet import SMALL_CONV_TASNET, ConvTasNetConfig
from cocktail.models.cosegmentation import SMALL_COSEGMENTATION, CoSegmentationConfig
from cocktail.models.dmc import SMALL_DMC, DMCConfig
from cocktail.models.dsol import SMALL_DSOL, DSOLConfig
from cocktail.models.ez_vsl import SMALL_EZ_VSL, EZVSLConfig
from cocktail.models.hdemucs import SMALL_HDEMUCS, HDemucsConfig
from cocktail.models.lvs import SMALL_LVS, LVSConfig
from cocktail.models.mix_and_localize import SMALL_MIX_AND_LOCALIZE, MixAndLocalizeConfig
from cocktail.models.mp_net import SMALL_MP_NET, MPNetConfig
from cocktail.models.ots import SMALL_OTS, OTSConfig
from cocktail.models.resunet import SMALL_RESUNET, ResUNetConfig
from cocktail.models.sgn import SMALL_SGN, SGNConfig
from cocktail.models.slavc import SMALL_SLAVC, SLAVCConfig
from cocktail.models.sound_of_pixels import SMALL_SOUND_OF_PIXELS, SoundOfPixelsConfig
from cocktail.models.sound_of_pixels_audio import SMALL_SOUND_OF_PIXELS_AUDIO, SoundOfPixelsAudioConfig
from cocktail.models.tdcn import SMALL_TDCN, TDCNConfig
from cocktail.models.wave_unet import SMALL_WAVE_U_NET, WaveUNetConfig
from cocktail.numerics.compiling import compile_network
from cocktail.numerics.precision import autocast_dtype
from cocktail.train.loop import Steps
from cocktail.train.update import Update
from cocktail.train.worker import Worker, set_up_device
from cocktail.types import MixtureBatch
from pipelines.experiments.benchmarks import (
    ADAM,
    COSEGMENT,
    LOCALIZATION,
    LOCALIZATION_OF_ONE,
    SEPARATION,
    SEPARATION_BY_A_GLANCE,
    SEPARATION_BY_SIGHT,
    SEPARATION_OF_SCENES,
    SGD,
)

HEARD, SEEN, GLANCED, SCENES = SEPARATION[0], SEPARATION_BY_SIGHT[0], SEPARATION_BY_A_GLANCE[0], SEPARATION_OF_SCENES[1]
ONE, PAIRS = LOCALIZATION_OF_ONE[0], LOCALIZATION[0]
MODELS: dict[str, tuple[Any, Any, Any]] = {
    "sgn": (SGNConfig(), SMALL_SGN, HEARD),
    "sound_of_pixels_audio": (SoundOfPixelsAudioConfig(), SMALL_SOUND_OF_PIXELS_AUDIO, HEARD),
    "wave_unet": (WaveUNetConfig(), SMALL_WAVE_U_NET, HEARD),
    "conv_tasnet": (ConvTasNetConfig(), SMALL_CONV_TASNET, HEARD),
    "hdemucs": (HDemucsConfig(), SMALL_HDEMUCS, HEARD),
    "resunet": (ResUNetConfig(), SMALL_RESUNET, HEARD),
    "tdcn": (TDCNConfig(), SMALL_TDCN, HEARD),
    "sound_of_pixels": (SoundOfPixelsConfig(), SMALL_SOUND_OF_PIXELS, SEEN),
    "mp_net": (MPNetConfig(), SMALL_MP_NET, SEEN),
    "co_separation": (CoSeparationConfig(), SMALL_CO_SEPARATION, GLANCED),
    "cosegmentation": (CoSegmentationConfig(), SMALL_COSEGMENTATION, COSEGMENT[0]),
    "avsa_sep": (AVSASepConfig(), SMALL_AVSA_SEP, SCENES),
    "avgn": (AVGNConfig(), SMALL_AVGN, PAIRS),
    "coarse_to_fine": (CoarseToFineConfig(), SMALL_COARSE_TO_FINE, PAIRS),
    "mix_and_localize": (MixAndLocalizeConfig(), SMALL_MIX_AND_LOCALIZE, PAIRS),
    "dsol": (DSOLConfig(), SMALL_DSOL, PAIRS),
    "attention10k": (Attention10kConfig(), SMALL_ATTENTION10K, ONE),
    "ots": (OTSConfig(), SMALL_OTS, ONE),
    "dmc": (DMCConfig(), SMALL_DMC, ONE),
    "lvs": (LVSConfig(), SMALL_LVS, ONE),
    "ez_vsl": (EZVSLConfig(), SMALL_EZ_VSL, ONE),
    "slavc": (SLAVCConfig(), SMALL_SLAVC, ONE),
}
"""Each model's paper configuration, its small one, and the benchmark whose mixtures it learns from."""
CLASSES = 11
Precision = Literal["float32", "tf32", "bfloat16"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    device: str = "cpu"
    size: Literal["small", "paper"] = "small"
    """Networks and mixtures of the demo, or of the paper's recipe with random weights."""
    models: tuple[str, ...] = tuple(MODELS)
    batch_size: int | None = None
    """Mixtures in a step; None is 8 of the small recipe and 16 of the paper's."""
    precisions: tuple[Precision, ...] = ("float32",)
    compiled: bool = False
    """Compile the networks (torch.compile)."""
    steps: int = 5
    """Steps that are timed, after two that are not."""
    compare: bool = True
    """With a GPU, compare a step of the small networks with a CPU's first."""


def experiment(name: str, size: str) -> Experiment:
    """A model's recipe, without pretrained weights."""
    config, small, benchmark = MODELS[name]
    paper = benchmark.paper(name, config, ADAM if benchmark in (ONE, PAIRS) else SGD)
    return paper if size == "paper" else benchmark.demo(paper, small)


def noise(experiment: Experiment, batch_size: int) -> MixtureBatch:
    """Random sound and pictures in the shapes of an experiment's mixtures, drawn on the CPU."""
    mixing, generator = experiment.mixing, torch.Generator().manual_seed(0)
    B, N, T = batch_size, mixing.num_sources, mixing.segment_samples
    classes = torch.stack([torch.randperm(CLASSES, generator=generator)[:N] for _ in range(B)])
    pictures = None
    if mixing.pictures_per_source:
        shape = (B, N, mixing.pictures_per_source, mixing.picture_side, mixing.picture_side, 3)
        pictures = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    return MixtureBatch(
        mixture_ids=tuple(map(str, range(B))),
        sources=torch.randint(-8000, 8000, (B, N, T), dtype=torch.int16, generator=generator),
        gains=torch.ones(B, N),
        class_ids=classes,
        present=torch.ones(B, N, dtype=torch.bool),
        labels=nn.functional.one_hot(classes, CLASSES).bool() if mixing.several_classes else None,
        pictures=pictures,
    )


def new_model(experiment: Experiment, device: torch.device) -> nn.Module:
    torch.manual_seed(0)
    return experiment.model.build(CLASSES).to(device).train()


def loss_and_gradient(experiment: Experiment, device: torch.device, batch: MixtureBatch) -> tuple[float, float]:
    """A batch's loss, and the length of its gradient, by a model that draws no random numbers."""
    model = new_model(experiment, device).eval()  # no dropout; BatchNorm as in testing
    torch.manual_seed(0)
    total = model(batch.to(device))["total"]
    total.backward()
    lengths = [parameter.grad.double().norm() for parameter in model.parameters() if parameter.grad is not None]
    return float(total.detach()), float(torch.stack(lengths).norm())


@dataclass(frozen=True, kw_only=True)
class Timed:
    milliseconds: float
    mixtures_per_second: float
    peak_gib: float
    loss: float


def timed_steps(settings: Settings, name: str, precision: Precision) -> Timed:
    """Steps of a model on the device, each waited for."""
    chosen, device = experiment(name, settings.size), torch.device(settings.device)
    batch_size = settings.batch_size or (8 if settings.size == "small" else 16)
    training = dataclasses.replace(chosen.training, batch_size=batch_size, precision=precision)
    set_up_device(training.precision, device)
    worker = Worker(device=device)
    model = new_model(chosen, device)
    update = Update(model, training, worker, groups=chosen.model.parameter_groups(model))
    if settings.compiled:
        compile_network(model)
    steps = Steps(model, training, worker, autocast_dtype(precision, device), 0)
    batch = noise(chosen, batch_size).to(device)
    seconds, losses = [], {}
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    for number in range(settings.steps + 2):
        _wait(device)
        begun = time.perf_counter()
        losses, _ = steps.take(number, batch, update)
        _wait(device)
        seconds.append(time.perf_counter() - begun)
    update.require_finite()
    median = statistics.median(seconds[2:])
    peak = torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else float("nan")
    return Timed(
        milliseconds=1e3 * median,
        mixtures_per_second=batch_size / median,
        peak_gib=peak,
        loss=float(losses["total"].detach()),
    )


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def compare(settings: Settings) -> None:
    """A line for each model: loss and gradient on the device and on a CPU."""
    set_up_device("float32", torch.device(settings.device))
    print(f"small networks, float32: loss and length of the gradient, {settings.device} against cpu")
    for name in settings.models:
        chosen = experiment(name, "small")
        batch = noise(chosen, max(chosen.model.fewest_mixtures, 2))
        (loss, norm), (other_loss, other_norm) = (
            loss_and_gradient(chosen, torch.device(device), batch) for device in (settings.device, "cpu")
        )
        apart = abs(loss / other_loss - 1), abs(norm / other_norm - 1)
        print(f"{name:24} {loss:12.6g} {norm:12.6g}   apart by {apart[0]:.1e} and {apart[1]:.1e}", flush=True)


def main(settings: Settings) -> None:
    cuda = settings.device.startswith("cuda")
    where = torch.cuda.get_device_name() if cuda else f"{torch.get_num_threads()} threads"
    print(f"{settings.device} ({where}), torch {torch.__version__}")
    if cuda and settings.compare:
        compare(settings)
    print(f"{settings.size} networks{', compiled' if settings.compiled else ''}: a training step")
    for name in settings.models:
        for precision in settings.precisions:
            timed = timed_steps(settings, name, precision)
            print(
                f"{name:24} {precision:8} {timed.milliseconds:9.1f} ms, {timed.mixtures_per_second:8.1f} mixtures/s, "
                f"{timed.peak_gib:6.2f} GiB, loss {timed.loss:.4g}",
                flush=True,
            )


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
