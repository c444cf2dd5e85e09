"""Wave-U-Net (Stoller, Ewert and Dixon, "Wave-U-Net: A Multi-Scale Neural Network for End-to-End Audio Source
Separation", ISMIR 2018), with its difference output.

A U-Net over samples: each level convolves and keeps every second sample, and on the way back each doubles the samples
by linear interpolation and convolves them beside those of the way down. All outputs but the last are the network's, the
last is what these leave of the mixture. SGN's tables have it with classes, too, of which there are two readings: a
classifier beside the task (`class_head`), and classes as an input (`sources` asked).

Shape letters: B batch, N sources, K outputs, C classes, T samples, D and E channels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cocktail.audio.mixing import mix
from cocktail.layers.class_conditioning import ClassHead, FiLM
from cocktail.layers.class_head import ClassHeadConfig, HearsClasses
from cocktail.layers.waveform_separator import WaveformSeparator
from cocktail.losses.class_constraint import presence_loss
from cocktail.losses.mask_loss import mean_over_sources
from cocktail.losses.waveform import separation_loss
from cocktail.numerics.precision import at_least_float32
from cocktail.types import MixtureBatch, Query, Separation, require

SLOPE = 0.2
"""Slope of the LeakyReLU below zero, as in the authors' code."""
SHORTEST = 1024
"""Samples below which a plain convolution is as fast (measured on CPUs)."""


@dataclass(frozen=True, kw_only=True)
class WaveUNetConfig(ClassHeadConfig):
    """The paper's M2 network, with zeros around what is convolved."""

    sources: Literal["anonymous", "asked", "stems"] = "anonymous"
    """Sources, and who names them. Anonymous ones come in any order, and are trained and scored in the best. Of each
    that is asked for the class goes into the network, by FiLM in every convolution from the bottom up, which run once a
    source; there is no difference output then, as any source could be it. Stems have an output for each class of the
    data set, 32 at most (MUSDB18 has 4)."""
    levels: int = 12
    """Levels L, each of half the samples of the one before. Mixtures are filled up with zeros to a multiple of 2^L."""
    channels: int = 24
    """Channels that each level has more than the one before."""
    down_kernel_size: int = 15
    """Taps of the convolutions on the way down, an odd number."""
    up_kernel_size: int = 5
    """Taps of the convolutions on the way up, an odd number."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(1 <= self.levels <= 24, f"levels must be from 1 to 24, not {self.levels}")
        require(self.channels >= 1, f"channels must be at least 1, not {self.channels}")
        for name in ("down_kernel_size", "up_kernel_size"):
            value = getattr(self, name)
            require(value >= 1 and value % 2 == 1, f"{name} must be odd, as zeros go on both sides alike, not {value}")

    def build(self, num_classes: int) -> WaveUNet:
        """The network for a list of classes, freshly initialised from torch's random state."""
        return WaveUNet(self, num_classes)


SMALL_WAVE_U_NET = WaveUNetConfig(levels=10, channels=6)
"""Four hundred thousand parameters, for some minutes on two cores."""


class WaveUNet(WaveformSeparator, HearsClasses):
    """A `cocktail.types.Separator`, and a `Classifier` if it has a class head."""

    def __init__(self, config: WaveUNetConfig, num_classes: int) -> None:
        super().__init__(config)
        self.config = config
        self.num_classes = num_classes
        asked = config.sources == "asked"
        widths = [config.channels * (level + 1) for level in range(config.levels + 1)]
        self.down = nn.ModuleList(
            _convolution(before, after, config.down_kernel_size) for before, after in pairwise([1, *widths[:-1]])
        )
        self.bottom = _convolution(widths[-2], widths[-1], config.down_kernel_size)
        self.up = nn.ModuleList(
            _convolution(below + here, here, config.up_kernel_size) for below, here in pairwise(widths[::-1])
        )
        self.out = _convolution(widths[0] + 1, 1 if asked else config.outputs_of(num_classes) - 1, 1)
        self.class_head = ClassHead(widths[-1], num_classes) if config.class_head else None
        self.films = nn.ModuleList(FiLM(num_classes, width) for width in widths[::-1]) if asked else None

    def encode(self, mixture: Tensor) -> list[Tensor]:
        """What the way down has [B, D, T'] of mixtures [B, T], filled up: the mixtures, each level before decimation,
        and the bottom before its LeakyReLU."""
        x = F.pad(mixture, (0, -mixture.shape[-1] % 2**self.config.levels))[:, None]
        levels = [x]
        for convolution in self.down:
            levels.append(F.leaky_relu(convolution(x), SLOPE))
            x = levels[-1][..., ::2]
        return [*levels, self.bottom(x)]

    def decode(self, levels: list[Tensor], class_ids: Tensor | None = None) -> Tensor:
        """Outputs of the network itself [B, K, T'] in [-1, 1], of what `encode` gave and, if asked for, classes [B]."""
        mixture, *skips, x = levels
        x = self._activated(x, 0, class_ids)
        for place, (convolution, skip) in enumerate(zip(self.up, skips[::-1], strict=True), start=1):
            assert isinstance(convolution, nn.Conv1d) and convolution.bias is not None
            x = doubled_convolution(x, skip, convolution.weight, convolution.bias)
            x = self._activated(x, place, class_ids)
        return at_least_float32(self.out(torch.cat([x, mixture], dim=1))).tanh()

    def _activated(self, x: Tensor, place: int, class_ids: Tensor | None) -> Tensor:
        """What a convolution gave, modulated by classes [B] if they are asked for, and through the LeakyReLU."""
        if self.films is not None and class_ids is not None:
            x = self.films[place](x, class_ids)
        return F.leaky_relu(x, SLOPE)

    def outputs(self, levels: list[Tensor], mixture: Tensor) -> Tensor:
        """Outputs [B, K, T] for mixtures [B, T], of what `encode` gave: those of the network, and what they leave."""
        own = self.decode(levels)[..., : mixture.shape[-1]]
        return torch.cat([own, mixture[:, None] - own.sum(dim=1, keepdim=True)], dim=1)

    def asked(self, levels: list[Tensor], class_ids: Tensor, num_samples: int) -> Tensor:
        """Outputs [B, N, T] of the classes [B, N] that are asked for, of what `encode` gave; silence of NO_CLASS."""
        B, N = class_ids.shape
        outputs = self.decode([level.repeat_interleave(N, dim=0) for level in levels], class_ids.flatten())
        return outputs[..., :num_samples].view(B, N, -1) * (class_ids >= 0)[..., None]

    def waveforms(self, mixture: Tensor) -> Tensor:
        """Outputs [B, K, T] of mixtures [B, T], which they add up to."""
        return self.outputs(self.encode(mixture), mixture)

    def forward(self, batch: MixtureBatch) -> dict[str, Tensor]:
        """Losses: the mean squared error of waveforms, and that of the class head.

        Sources that are asked for have no silent others: the mean is over those that are present.
        """
        mixture, references = mix(batch)
        levels = self.encode(mixture)
        if self.films is None:
            outputs = self.outputs(levels, mixture)
            separation = separation_loss("mse", outputs, references, batch, stems=self.stems)
        else:
            errors = (self.asked(levels, batch.class_ids, mixture.shape[-1]) - references).square().mean(dim=-1)
            separation = mean_over_sources(errors, batch.present)
        losses = {"separation": separation}
        if (logits := self._logits(levels)) is not None:
            losses["presence"] = presence_loss(logits, self.heard(batch))
            separation = separation + self.config.class_loss_weight * losses["presence"]
        return {**losses, "total": separation}

    def presence_logits(self, mixture: Tensor) -> Tensor | None:
        return self._logits(self.encode(mixture))

    def _logits(self, levels: list[Tensor]) -> Tensor | None:
        """Logits [B, C] of each class being heard, of what `encode` gave; None without a class head."""
        return None if self.class_head is None else self.class_head(F.leaky_relu(levels[-1], SLOPE))

    @torch.no_grad()
    def separate(self, mixture: Tensor, query: Query) -> Separation:
        """Estimates of mixtures [B, T], as long as these: of the named classes, in their order, if these are asked for.

        Raises UsageError as `answer` does, or if no classes are named where they have to be.
        """
        levels = self.encode(mixture)
        if self.films is None:
            separation = self.answer(self.outputs(levels, mixture), mixture, query)
        else:
            estimates = self.asked(levels, query.named, mixture.shape[-1])
            separation = Separation(estimates=estimates, class_ids=query.named)
        if (logits := self._logits(levels)) is None:
            return separation
        return replace(separation, intermediates={"presence": logits.float().sigmoid()})


def doubled(x: Tensor) -> Tensor:
    """Twice the samples, [B, D, 2 T'] of [B, D, T']: between each and the next their mean, behind the last it again.

    Even samples are thus those that decimation kept, as in the authors' upsampling between zeros.
    """
    following = torch.cat([x[..., 1:], x[..., -1:]], dim=-1)
    return torch.stack([x, (x + following) / 2], dim=-1).flatten(-2)


def doubled_convolution(x: Tensor, skip: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The convolution [B, E, 2 T'] of x [B, D, T'], doubled, beside skip [B, D', 2 T'] with a kernel [E, D + D', taps].

    The fast form is for CPUs in full precision; on GPUs and under autocast it is unmeasured, or rounds sums of taps,
    and the plain one runs.
    """
    if x.device.type != "cpu" or torch.is_autocast_enabled("cpu") or skip.shape[-1] < SHORTEST:
        return plain_doubled_convolution(x, skip, weight, bias)
    return merged_doubled_convolution(x, skip, weight, bias)


def plain_doubled_convolution(x: Tensor, skip: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The same convolution, as one writes it."""
    return F.conv1d(torch.cat([doubled(x), skip], dim=1), weight, bias, padding=weight.shape[-1] // 2)


def merged_doubled_convolution(x: Tensor, skip: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The same convolution, without the doubled samples: interpolation and kernel are one transposed convolution, and
    what that has too much before the first sample, and too little behind the last, is added after.

    Equals the plain one but for rounding, and so do gradients. T' has to be longer than half a kernel.
    """
    D, half = x.shape[1], weight.shape[-1] // 2
    own, beside = weight.split([D, weight.shape[1] - D], dim=1)
    interpolation = own.new_tensor([0.5, 1.0, 0.5]).expand(D, 1, 3)
    kernel = F.conv1d(own, interpolation, padding=2, groups=D).transpose(0, 1).flip(-1)
    out = F.conv_transpose1d(x, kernel, bias, stride=2, padding=half + 1, output_padding=1)
    out = out + F.conv1d(skip, beside, padding=half)
    out[..., :half] -= torch.einsum("bd,edk->bek", x[..., 0] / 2, own[..., :half].flip(-1))
    out[..., -half - 1 :] += torch.einsum("bd,edk->bek", x[..., -1] / 2, own[..., half:].flip(-1))
    return out


def _convolution(in_channels: int, out_channels: int, kernel_size: int) -> nn.Conv1d:
    """A convolution with zeros around, whose weights start as TensorFlow's, which the authors leave as they are."""
    convolution = nn.Conv1d(in_channels, out_channels, kernel_size, padding=kernel_size // 2)
    nn.init.xavier_uniform_(convolution.weight)
    assert convolution.bias is not None
    nn.init.zeros_(convolution.bias)
    return convolution
