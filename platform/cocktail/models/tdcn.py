"""TDCN++, the time-dilated convolutional network of universal sound separation, and FUSS's baseline (Kavalerov et al.,
"Universal Sound Separation", WASPAA 2019; Wisdom et al., "What's All the FUSS About Free Universal Sound Separation
Data?", ICASSP 2021).

Blocks of a dense layer, a dilated convolution in time and a dense layer, with links across repeats of them, make a mask
an output of the magnitudes of a mixture's transform. The estimates are then made to add up to the mixture. Layers that
the papers leave open are as in the baseline's published code.

Shape letters: B batch, N sources, K outputs, T samples, F frequency bins, M frames, D channels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cocktail.audio.mixing import mix
from cocktail.audio.stft import ShortTimeTransform
from cocktail.config.mixing import Mixing
from cocktail.config.model import ModelConfig
from cocktail.layers.mixture_consistency import add_up_to
from cocktail.layers.waveform_separator import loudest_first, require_room
from cocktail.losses.permutation import permutation_invariant_loss
from cocktail.losses.thresholded import pairwise_thresholded_log_mse
from cocktail.numerics.precision import at_least_float32
from cocktail.types import NO_CLASS, MixtureBatch, Query, Separation, require

WINDOW_SECONDS, HOP_SECONDS = 0.032, 0.008
SLOPE = 0.1
"""Slope of PReLU below zero at the start."""
NORM_EPS = 1e-3
"""Added to variances: silence stays silence."""
SCALE_BASE = 0.9
"""Scale of block b's outcome at the start is this to the power of b."""


@dataclass(frozen=True, kw_only=True)
class TDCNConfig(ModelConfig):
    """FUSS's baseline, but for the number of outputs."""

    outputs: int = 2
    """Sources that are separated, at most; with fewer, the outputs left over learn to be silent. The baseline has 4;
    SGN's Table II is of two sources."""
    n_fft: int = 512
    """Length of the window and of the transform, in samples: 32 ms at the baseline's 16 kHz, for which FUSS is sharded
    with --sample-rate-hz 16000. Jobs propose as many as are 32 ms at the rate of their data set, 352 at 11,025 Hz."""
    hop_length: int = 128
    """Samples between frames: 8 ms at 16 kHz. Jobs propose 88 at 11,025 Hz."""
    width: int = 256
    """Channels between blocks."""
    inner_width: int = 512
    """Channels within a block."""
    repeats: int = 4
    """Repeats of the blocks. What enters the first block of one is added, through a dense layer, to what enters those
    of all later ones: blocks 0 to 8, 16 and 24, 8 to 16 and 24, 16 to 24."""
    blocks: int = 8
    """Blocks in a repeat; block b of it is dilated by 2^b frames."""
    kernel_size: int = 3
    """Frames that a convolution sees, an odd number."""
    active_limit_db: float = 30.0
    """Signal-to-error ratio beyond which a better estimate of an active source gains little, in dB."""
    silent_limit_db: float = 20.0
    """Level below the mixture at which an estimate of a silent source is as good as silent, in dB."""

    def __post_init__(self) -> None:
        for name in ("outputs", "width", "inner_width", "repeats", "blocks"):
            require(getattr(self, name) >= 1, f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("active_limit_db", "silent_limit_db"):
            require(getattr(self, name) > 0, f"{name} must be positive, not {getattr(self, name)}")
        require(self.kernel_size % 2 == 1, f"kernel_size must be odd, not {self.kernel_size}")
        require(
            0 < self.hop_length <= self.n_fft // 3,
            f"hop_length must be in 1..n_fft/3 = {self.n_fft // 3}, not {self.hop_length}",
        )

    def fitted_to(self, mixing: Mixing) -> Self:
        """As many outputs as the mixtures have sources, if these are more, and the published windows and hops, 32 and
        8 ms, at their rate."""
        return replace(
            self,
            outputs=max(self.outputs, mixing.num_sources),
            n_fft=2 * round(mixing.sample_rate_hz * WINDOW_SECONDS / 2),
            hop_length=round(mixing.sample_rate_hz * HOP_SECONDS),
        )

    def require_test_mixing(self, mixing: Mixing) -> None:
        """Raise UsageError for whole clips, or for more sources than outputs."""
        require(
            mixing.arrangement != "whole",
            "whole clips are one sound, with no reference for each source, which TDCN++ learns and is scored by: leave "
            "--mixing.arrangement at remixed or released",
        )
        require(
            mixing.num_sources <= self.outputs,
            f"the mixtures have up to {mixing.num_sources} sources, model.outputs is {self.outputs}: raise it",
        )

    def build(self, num_classes: int) -> TDCN:
        """The network, freshly initialised from torch's random state; it knows no classes."""
        return TDCN(self)


SMALL_TDCN = TDCNConfig(n_fft=352, hop_length=88, width=96, inner_width=192, repeats=3, blocks=7)
"""Under a million parameters, for some minutes on two cores at 11,025 Hz."""


class Dense(nn.Module):
    """[B, D, M] -> [B, out, M]: a linear map of each frame times a learned scale, or without one."""

    def __init__(self, channels: int, out: int, *, bias: bool, scale: float | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(nn.init.xavier_uniform_(torch.empty(out, channels)))
        self.bias = nn.Parameter(torch.zeros(out)) if bias else None
        self.scale = None if scale is None else nn.Parameter(torch.full((), scale))

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.weight, self.bias
        if self.scale is not None:
            weight, bias = self.scale * weight, None if bias is None else self.scale * bias
        return F.conv1d(x, weight[..., None], bias)


class ScalarNorm(nn.Module):
    """Zero mean and unit variance over the last `axes` axes, in float32 at least, times a scalar, plus a scalar.

    Over time alone (one axis of [B, D, M]) it is TDCN++'s feature-wise global norm.
    """

    def __init__(self, axes: int = 1) -> None:
        super().__init__()
        self.axes = axes
        self.gain = nn.Parameter(torch.ones(()))
        self.shift = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-self.axes :], eps=NORM_EPS) * self.gain + self.shift


class Block(nn.Module):
    """[B, D, M] -> [B, D, M]: dense layer, dilated convolution of each channel in time, dense layer, added to what came
    in. PReLU and norm behind the first two."""

    def __init__(self, config: TDCNConfig, index: int) -> None:
        super().__init__()
        inner, dilation = config.inner_width, 2 ** (index % config.blocks)
        self.dense_in = Dense(config.width, inner, bias=False, scale=1.0)
        self.norm_in = nn.Sequential(nn.PReLU(init=SLOPE), ScalarNorm())
        self.convolution = nn.Conv1d(inner, inner, config.kernel_size, padding="same", dilation=dilation, groups=inner)
        nn.init.xavier_uniform_(self.convolution.weight)
        nn.init.zeros_(self.convolution.bias)  # pyright: ignore[reportArgumentType]
        self.norm_out = nn.Sequential(nn.PReLU(init=SLOPE), ScalarNorm())
        self.dense_out = Dense(inner, config.width, bias=False, scale=SCALE_BASE**index)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm_in(self.dense_in(x))
        return x + self.dense_out(self.norm_out(self.convolution(y)))


class DilatedNetwork(nn.Module):
    """Features [B, D, M] of magnitudes [B, F, M]."""

    def __init__(self, config: TDCNConfig) -> None:
        super().__init__()
        self.blocks_per_repeat = config.blocks
        self.input_norm = ScalarNorm(axes=2)
        self.dense_in = Dense(config.n_fft // 2 + 1, config.width, bias=True, scale=1.0)
        self.blocks = nn.ModuleList(Block(config, index) for index in range(config.repeats * config.blocks))
        # links[r - 1][q] leads from what enters repeat q to what enters repeat r.
        self.links = nn.ModuleList(
            nn.ModuleList(Dense(config.width, config.width, bias=True, scale=1.0) for _ in range(repeat))
            for repeat in range(1, config.repeats)
        )

    def forward(self, magnitude: Tensor) -> Tensor:
        x = self.dense_in(self.input_norm(magnitude))
        entering: list[Tensor] = []
        for index, block in enumerate(self.blocks):
            if index % self.blocks_per_repeat == 0:
                if entering:
                    links = self.links[len(entering) - 1]
                    assert isinstance(links, nn.ModuleList)
                    for link, before in zip(links, entering, strict=True):
                        x = x + link(before)
                entering.append(x)
            x = block(x)
        return x


class TDCN(nn.Module):
    """A `cocktail.types.Separator` of sources that nobody names."""

    def __init__(self, config: TDCNConfig) -> None:
        super().__init__()
        self.config = config
        self.front_end = ShortTimeTransform(config.n_fft, config.hop_length, "sqrt_hann")
        self.network = DilatedNetwork(config)
        self.mask_logits = Dense(config.width, config.outputs * self.front_end.num_bins, bias=False)
        self.mixture_weights = Dense(config.width, config.outputs, bias=False)

    def estimates(self, mixture: Tensor) -> tuple[Tensor, Tensor]:
        """Estimates [B, K, T] that add up to mixtures [B, T], and the masks [B, K, F, M] that they began as.

        Differs from the published code in the transform, whose frames there begin with the first sample; here half a
        window of reflected samples goes before it, so that the inverse gives the first samples back, too.
        """
        transform = self.front_end.stft(mixture)
        features = self.network(transform.abs())
        masks = at_least_float32(self.mask_logits(features)).sigmoid().unflatten(1, (self.config.outputs, -1))
        apart = self.front_end.istft(transform[:, None] * masks, mixture.shape[-1])
        weights = self.mixture_weights(features.mean(dim=2, keepdim=True)).squeeze(2)
        return add_up_to(mixture, apart, at_least_float32(weights).softmax(dim=1)), masks

    def forward(self, batch: MixtureBatch) -> dict[str, Tensor]:
        """Loss: the thresholded logarithm of the squared error in dB, the mean over all outputs, in the order of the
        least loss. Sources that are not there are silent references.

        Differs from the published code, which takes the order of the least loss without thresholds.
        """
        config = self.config
        mixture, references = mix(batch)
        estimates, _ = self.estimates(mixture)
        pairs = pairwise_thresholded_log_mse(
            estimates,
            F.pad(references, (0, 0, 0, config.outputs - references.shape[1])),
            mixture,
            active_limit_db=config.active_limit_db,
            silent_limit_db=config.silent_limit_db,
        )
        loss = permutation_invariant_loss(pairs).mean() / config.outputs
        return {"reconstruction": loss, "total": loss}

    @torch.no_grad()
    def separate(self, mixture: Tensor, query: Query) -> Separation:
        """Estimates [B, K, T] of all outputs, the loudest first; they add up to the mixture, unless what lies beyond
        full scale is cut off.

        Of more outputs than sources, those that fit best are scored; the FUSS rule counts the others. Raises UsageError
        if more sources are asked for than there are outputs.
        """
        require_room(query, self.config.outputs)
        estimates, masks = self.estimates(mixture)
        order = loudest_first(estimates)
        return Separation(
            estimates=estimates.take_along_dim(order[..., None], dim=1).clamp(-1.0, 1.0),
            class_ids=torch.full(order.shape, NO_CLASS, device=mixture.device),
            masks=masks.take_along_dim(order[..., None, None], dim=1),
        )
