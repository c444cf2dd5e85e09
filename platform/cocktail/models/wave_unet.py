"""Wave-U-Net (Stoller, Ewert and Dixon, "Wave-U-Net: A Multi-Scale Neural Network for End-to-End Audio Source
Separation", ISMIR 2018), with its difference output.

A U-Net over samples: each level convolves and keeps every second sample, and on the way back each doubles the samples
by linear interpolation and convolves them beside those of the way down. All outputs but the last are the network's, the
last is what these leave of the mixture. With classes it is also "Wave-U-Net + class" of SGN's tables, in two readings:
as a target beside the task (`class_head`), and as an input (`class_input`).

Shape letters: B batch, N sources, K outputs, C classes, T samples, D channels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cocktail.audio.mixing import mix
from cocktail.config.mixing import Mixing
from cocktail.layers.classes import classes_among
from cocktail.layers.waveform_separator import WaveformSeparator, WaveformSeparatorConfig
from cocktail.losses.class_constraint import presence_loss
from cocktail.metrics.classification import confusion_counts
from cocktail.types import MixtureBatch, Query, Separation, require

SLOPE = 0.2
"""Slope of the LeakyReLU below zero, as in the authors' code."""
SHORTEST = 1024
"""Samples below which a plain convolution is as fast (measured on CPUs)."""


@dataclass(frozen=True, kw_only=True)
class WaveUNetConfig(WaveformSeparatorConfig):
    """The paper's M2 network, with zeros around what is convolved."""

    levels: int = 12
    """Levels L, each of half the samples of the one before. Mixtures are filled up with zeros to a multiple of 2^L."""
    channels: int = 24
    """Channels that each level has more than the one before."""
    down_kernel_size: int = 15
    """Taps of the convolutions on the way down, an odd number."""
    up_kernel_size: int = 5
    """Taps of the convolutions on the way up, an odd number."""
    class_head: bool = False
    """Learn beside the task which classes are in a mixture: a linear map of the bottleneck's mean over time, by binary
    cross-entropy. Outputs stay what they are. It is how "+ class" is read first, as it takes no class to be known."""
    class_head_weight: float = 1.0
    """Weight of the class head's loss; nothing else reads it."""
    class_input: bool = False
    """Tell the network which class is meant, whose sound is then its only output: channels from the bottleneck on are
    scaled and shifted by numbers of the class (FiLM, Perez et al., AAAI 2018), and the way up is gone once for each
    class asked for. There is no difference output, as any source could be it. num_outputs is not read then."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(1 <= self.levels <= 24, f"levels must be from 1 to 24, not {self.levels}")
        require(self.channels >= 1, f"channels must be at least 1, not {self.channels}")
        for name in ("down_kernel_size", "up_kernel_size"):
            value = getattr(self, name)
            require(value >= 1 and value % 2 == 1, f"{name} must be odd, as zeros go on both sides alike, not {value}")
        require(self.class_head_weight > 0, f"class_head_weight must be positive, not {self.class_head_weight}")
        require(
            self.outputs == "anonymous" or not self.class_input,
            "class_input has one output, whose class is asked for: leave outputs at anonymous",
        )

    @property
    def names_classes(self) -> bool:
        """True where each estimate is of a class."""
        return self.class_input or super().names_classes

    def require_mixing(self, mixing: Mixing) -> None:
        """Raise UsageError as the base does, and for sources whose classes are not all known to the class head."""
        require(
            mixing.distinct_classes or not self.class_head,
            "class_head learns the classes of all sources: leave out --mixing.no-distinct-classes",
        )
        super().require_mixing(mixing)

    def build(self, num_classes: int) -> WaveUNet:
        """The network for a list of classes, freshly initialised from torch's random state."""
        return WaveUNet(self, num_classes)


SMALL_WAVE_U_NET = WaveUNetConfig(levels=10, channels=6)
"""Four hundred thousand parameters, for some minutes on two cores."""


class WaveUNet(WaveformSeparator):
    """A `cocktail.types.Separator`, and a `Classifier` if it has a class head."""

    def __init__(self, config: WaveUNetConfig, num_classes: int) -> None:
        super().__init__(config, "mse")
        self.config = config
        self.num_classes = num_classes
        widths = [config.channels * (level + 1) for level in range(config.levels + 1)]
        self.down = nn.ModuleList(
            _convolution(before, after, config.down_kernel_size) for before, after in pairwise([1, *widths[:-1]])
        )
        self.bottom = _convolution(widths[-2], widths[-1], config.down_kernel_size)
        self.up = nn.ModuleList(
            _convolution(below + here, here, config.up_kernel_size) for below, here in pairwise(widths[::-1])
        )
        own_outputs = 1 if config.class_input else config.outputs_of(num_classes) - 1
        self.out = _convolution(widths[0] + 1, own_outputs, 1)
        self.class_head = nn.Linear(widths[-1], num_classes) if config.class_head else None
        self.films = None
        if config.class_input:
            self.films = nn.ModuleList(nn.Embedding(num_classes, 2 * width) for width in widths[::-1])
            for film in self.films:
                nn.init.zeros_(film.weight)  # at the start all classes sound alike

    def encode(self, mixture: Tensor) -> list[Tensor]:
        """Channels on the way down [B, D, T'] of mixtures [B, T], those of the bottleneck last and not yet through the
        LeakyReLU."""
        x = F.pad(mixture, (0, -mixture.shape[-1] % 2**self.config.levels))[:, None]
        levels = [x]
        for convolution in self.down:
            levels.append(F.leaky_relu(convolution(x), SLOPE))
            x = levels[-1][..., ::2]
        return [*levels, self.bottom(x)]

    def decode(self, levels: list[Tensor], class_ids: Tensor | None = None) -> Tensor:
        """Outputs of the network [B, K, T'], float32, each in [-1, 1], of what `encode` gave; given classes [B], those
        that are meant."""
        *levels, x = levels
        x = F.leaky_relu(self._modulated(x, 0, class_ids), SLOPE)
        for place, convolution in enumerate(self.up, start=1):
            x = doubled_convolution(x, levels.pop(), convolution.weight, convolution.bias)
            x = F.leaky_relu(self._modulated(x, place, class_ids), SLOPE)
        return torch.tanh(self.out(torch.cat([x, *levels], dim=1)).float())

    def _modulated(self, x: Tensor, place: int, class_ids: Tensor | None) -> Tensor:
        """Channels [B, D, T'] scaled and shifted by the numbers of classes [B] at a place of the way up."""
        if self.films is None or class_ids is None:
            return x
        scale, shift = self.films[place](class_ids)[..., None].chunk(2, dim=1)
        return x * (1 + scale) + shift

    def outputs(self, levels: list[Tensor], mixture: Tensor, class_ids: Tensor | None) -> Tensor:
        """Outputs [B, K, T] for mixtures [B, T], of what `encode` gave: those of the network and what they leave; or
        [B, N, T] of classes [B, N] if classes are its input."""
        T = mixture.shape[-1]
        if self.films is None or class_ids is None:
            own = self.decode(levels)[..., :T]
            return torch.cat([own, mixture[:, None] - own.sum(dim=1, keepdim=True)], dim=1)
        N = class_ids.shape[1]
        each = [level.repeat_interleave(N, dim=0) for level in levels]
        return self.decode(each, class_ids.clamp(min=0).flatten())[..., :T].view(-1, N, T)

    def presence_logits(self, levels: list[Tensor]) -> Tensor | None:
        """Logits [B, C] of each class being in the mixture, of what `encode` gave; None without a class head."""
        return None if self.class_head is None else self.class_head(F.leaky_relu(levels[-1], SLOPE).mean(dim=-1))

    def forward(self, batch: MixtureBatch) -> dict[str, Tensor]:
        """Losses: mean squared error of the waveforms, and of a class head the cross-entropy of the classes."""
        mixture, references = mix(batch)
        levels = self.encode(mixture)
        if self.config.class_input:
            outputs = self.outputs(levels, mixture, batch.class_ids)
            errors = (outputs - references).square().mean(dim=-1) * batch.present
            losses = {"separation": (errors.sum(dim=1) / batch.present.sum(dim=1)).mean()}
        else:
            losses = {"separation": self.separation_loss(self.outputs(levels, mixture, None), references, batch)}
        total = losses["separation"]
        if (logits := self.presence_logits(levels)) is not None:
            losses["presence"] = presence_loss(logits, self._heard(batch))
            total = total + self.config.class_head_weight * losses["presence"]
        return {**losses, "total": total}

    def _heard(self, batch: MixtureBatch) -> Tensor:
        """Truth y, bool [B, C]: which classes are in the mixtures."""
        return classes_among(batch.class_ids, batch.present, self.num_classes, batch.labels)

    @torch.no_grad()
    def confusion(self, batch: MixtureBatch | None) -> dict[str, Tensor]:
        """Counts [C, 3] for presence above 0.5; nothing without a class head."""
        if batch is None or self.class_head is None:
            return {}
        logits = self.presence_logits(self.encode(mix(batch)[0]))
        assert logits is not None
        return {"presence": confusion_counts(logits > 0, self._heard(batch))}

    @torch.no_grad()
    def separate(self, mixture: Tensor, query: Query) -> Separation:
        """Estimates of the sources of mixtures [B, T], as long as these; of the classes asked for [B, N], in their
        order, if outputs are classes or classes are the input.

        Raises UsageError as the base does.
        """
        levels = self.encode(mixture)
        if self.config.class_input:
            class_ids = query.named
            outputs = self.outputs(levels, mixture, class_ids) * (class_ids >= 0)[..., None]
            separation = Separation(estimates=outputs, class_ids=class_ids)
        else:
            separation = self.answer(self.outputs(levels, mixture, None), mixture, query)
        if (logits := self.presence_logits(levels)) is None:
            return separation
        return replace(separation, intermediates={"presence": logits.float().sigmoid()})


def doubled(x: Tensor) -> Tensor:
    """Twice the samples [B, D, 2 T'] of [B, D, T']: between each and the next their mean, and at the end the last again.

    Even samples are thus those that decimation kept, as in the authors' upsampling between zeros.
    """
    following = torch.cat([x[..., 1:], x[..., -1:]], dim=-1)
    return torch.stack([x, (x + following) / 2], dim=-1).flatten(-2)


def doubled_convolution(x: Tensor, skip: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The convolution [B, E, 2 T'] of x [B, D, T'], doubled, beside skip [B, D', 2 T'] with a kernel [E, D + D', taps].

    The fast form is for CPUs in full precision; on GPUs and under autocast it is unmeasured, or rounds sums of taps, and
    the plain one runs.
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
