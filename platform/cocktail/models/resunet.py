"""ResUNetDecouple+, a residual U-Net that estimates magnitude and phase apart (Kong et al., "Decoupling Magnitude and
Phase Estimation with Deep ResUNet for Music Source Separation", ISMIR 2021).

Of a mixture's transform X the network makes four maps a source: a mask M in (0, 1), a direction P in the plane, and Q.
The source has the magnitude relu(M |X| + Q) and the phase of X turned by the angle of P: "decouple" is the two apart,
"+" the direct term Q. The loss is taken behind the inverse transform.

Shape letters: B batch, R rows (mixtures, or mixtures times sources), N sources, K outputs, C classes, D channels,
T samples, F frequency bins, M frames.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cocktail.audio.mixing import mix
from cocktail.audio.stft import ShortTimeTransform
from cocktail.layers.class_conditioning import ClassHead, FiLM
from cocktail.layers.class_head import ClassHeadConfig, HearsClasses
from cocktail.layers.classes import of_classes
from cocktail.layers.waveform_separator import loudest_first, require_room
from cocktail.losses.class_constraint import presence_loss
from cocktail.losses.mask_loss import mean_over_sources
from cocktail.losses.waveform import separation_loss
from cocktail.numerics.precision import at_least_float32
from cocktail.types import NO_CLASS, MixtureBatch, Query, Separation, require

SLOPE = 0.01
"""Slope of LeakyReLU below zero."""
SHORTEST = 1e-4
"""Length that a direction P is divided by at least: its gradient, 1 / |P|, stays below ten thousand."""
FAINTEST = 1e-10
"""Magnitude that X is divided by at least to have its phase. Where X is zero it has none, and sources are silent."""


@dataclass(frozen=True, kw_only=True)
class ResUNetConfig(ClassHeadConfig):
    """The paper's network at SGN's rate and transform; layers that its text leaves open are as its authors' code has
    them, which has its number of parameters."""

    n_fft: int = 1022
    """Length of the window and of the transform, in samples, of which frequency bins follow: half of it and one. SGN's,
    for its 11,025 Hz; the paper has 2048 at 44.1 kHz."""
    hop_length: int = 256
    """Samples between frames; the paper has 441 at 44.1 kHz."""
    channels: tuple[int, ...] = (32, 64, 128, 256, 384, 384)
    """Channels of the down stages, the first first; up stages mirror them. Each halves frequency and time, the last
    frequency alone."""
    blocks: int = 4
    """Residual blocks in a stage."""
    bottom_stages: int = 4
    """Stages between down and up, without pooling: four make the 143 convolutions of the paper's network."""
    direct: bool = True
    """The term Q, the "+": magnitudes that no mask in (0, 1) reaches. Without it, magnitudes are M |X|."""
    sources: Literal["anonymous", "asked", "stems"] = "anonymous"
    """Sources, and who names them. Anonymous ones come in any order, and are trained and scored in the best. Of each
    that is asked for the class goes into the network, by FiLM in every up stage, which runs once a source. Stems have
    an output for each class of the data set, 32 at most (MUSDB18 has 4)."""
    batch_norm_momentum: float = 0.01
    """Weight of a batch in BatchNorm's running averages; the authors' code has a tenth of torch's."""

    def __post_init__(self) -> None:
        super().__post_init__()
        stages, bins = len(self.channels), self.n_fft // 2 + 1
        require(stages >= 2 and min(self.channels) >= 1, f"channels has two stages or more, not {self.channels}")
        require(
            bins % 2**stages in (0, 1) and bins >= 2**stages,
            f"{stages} stages halve the {bins} bins of n_fft {self.n_fft} unevenly: take a multiple of "
            f"{2 ** (stages + 1)}, or two less",
        )
        require(
            0 < self.hop_length <= self.n_fft // 3,
            f"hop_length must be in 1..n_fft/3 = {self.n_fft // 3}, not {self.hop_length}",
        )
        for name, least in (("blocks", 1), ("bottom_stages", 0)):
            require(getattr(self, name) >= least, f"{name} must be at least {least}, not {getattr(self, name)}")
        require(
            0 < self.batch_norm_momentum <= 1, f"batch_norm_momentum must be in (0, 1], not {self.batch_norm_momentum}"
        )

    def build(self, num_classes: int) -> ResUNet:
        """The network for a list of classes, freshly initialised from torch's random state."""
        return ResUNet(self, num_classes)


SMALL_RESUNET = ResUNetConfig(channels=(8, 16, 32, 64, 96, 96), blocks=1, bottom_stages=1, batch_norm_momentum=0.1)
"""A million parameters, for a quarter of an hour on two cores: three times the cost of a step of SMALL_SGN."""


class ResidualBlock(nn.Module):
    """[R, D, F, M] -> [R, out, F, M]: BatchNorm, LeakyReLU, convolution 3x3, twice, beside what came in."""

    def __init__(self, channels: int, out: int, momentum: float) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.BatchNorm2d(width, momentum=momentum) for width in (channels, out))
        self.convolutions = nn.ModuleList(nn.Conv2d(width, out, 3, padding=1, bias=False) for width in (channels, out))
        self.shortcut = nn.Conv2d(channels, out, 1) if channels != out else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for norm, convolution in zip(self.norms, self.convolutions, strict=True):
            y = convolution(F.leaky_relu(norm(y), SLOPE, inplace=True))
        return self.shortcut(x) + y


def residual_stage(channels: int, out: int, config: ResUNetConfig) -> nn.Sequential:
    """Residual blocks one after the other; the first changes the channels."""
    widths = [channels] + [out] * config.blocks
    return nn.Sequential(*(ResidualBlock(*pair, config.batch_norm_momentum) for pair in itertools.pairwise(widths)))


class UpStage(nn.Module):
    """[R, D, F, M] -> [R, out, F * stride, M * stride]: BatchNorm, FiLM where there are classes, ReLU, transposed
    convolution; then a residual stage of it and what went down at that size."""

    def __init__(
        self, channels: int, out: int, stride: tuple[int, int], config: ResUNetConfig, num_classes: int
    ) -> None:
        super().__init__()
        self.film = FiLM(num_classes, channels) if config.sources == "asked" else None
        self.norm = nn.BatchNorm2d(channels, momentum=config.batch_norm_momentum)
        self.upsample = nn.ConvTranspose2d(channels, out, stride, stride=stride, bias=False)
        self.blocks = residual_stage(2 * out, out, config)

    def forward(self, x: Tensor, skip: Tensor, class_ids: Tensor | None) -> Tensor:
        x = self.norm(x)
        if self.film is not None and class_ids is not None:
            x = self.film(x, class_ids)
        return self.blocks(torch.cat([self.upsample(F.relu(x)), skip], dim=1))


class ResidualUNet(nn.Module):
    """Maps [R, K, 4, F, M] (3 without the direct term) of magnitudes [B, F, M]: `encode`, then `decode` once for all
    sources or, with classes, once for each."""

    def __init__(self, config: ResUNetConfig, num_outputs: int, num_classes: int) -> None:
        super().__init__()
        channels = config.channels
        self.num_outputs = num_outputs
        self.strides = [(2, 2)] * (len(channels) - 1) + [(2, 1)]
        num_bins = config.n_fft // 2 + 1
        self.num_rows = num_bins - num_bins % 2 ** len(channels)
        self.bin_norm = nn.BatchNorm1d(num_bins, momentum=config.batch_norm_momentum)
        self.down = nn.ModuleList(
            residual_stage(before, width, config) for before, width in zip((1, *channels), channels, strict=False)
        )
        self.bottom = nn.Sequential(
            *(residual_stage(channels[-1], channels[-1], config) for _ in range(config.bottom_stages))
        )
        self.up = nn.ModuleList(
            UpStage(before, width, stride, config, num_classes)
            for before, width, stride in zip(
                (channels[-1], *channels[::-1]), channels[::-1], self.strides[::-1], strict=False
            )
        )
        self.last = residual_stage(channels[0], channels[0], config)
        self.maps = nn.Conv2d(channels[0], num_outputs * (4 if config.direct else 3), 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def encode(self, magnitude: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The bottom [B, D, ...], and what goes across at each size, of magnitudes [B, F, M].

        Each bin is normalised by itself. A bin too many for the halvings, the highest, is left out; frames are filled
        up with zeros.
        """
        x = self.bin_norm(magnitude)[:, None, : self.num_rows]
        x = F.pad(x, (0, -x.shape[-1] % 2 ** (len(self.strides) - 1)))
        x = x.contiguous(memory_format=torch.channels_last)
        skips = []
        for stage, stride in zip(self.down, self.strides, strict=True):
            skips.append(stage(x))
            x = F.avg_pool2d(skips[-1], stride)
        return self.bottom(x), skips

    def decode(
        self, bottom: Tensor, skips: Sequence[Tensor], size: tuple[int, int], class_ids: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Maps [R, K, 4, F, M] and the features that they are made of, [R, D, F, M], for a `size` of F and M.

        R is B; or, given class_ids [B, N], the number of those that name a class, row by row. Others have no row, in
        which they would count in BatchNorm's statistics. A bin that was left out has the maps of the one below.
        """
        if class_ids is not None:
            rows, _ = (class_ids >= 0).nonzero(as_tuple=True)
            bottom, *skips = (each[rows] for each in (bottom, *skips))
            class_ids = class_ids[class_ids >= 0]
        x = bottom
        for stage, skip in zip(self.up, reversed(skips), strict=True):
            x = stage(x, skip, class_ids)
        (F_, M), features = size, self.last(x)
        maps = at_least_float32(self.maps(features))[..., :M]
        maps = F.pad(maps, (0, 0, 0, F_ - maps.shape[2]), mode="replicate")
        return maps.unflatten(1, (self.num_outputs, -1)), features[..., :M]


def turned_and_masked(maps: Tensor, transform: Tensor) -> Tensor:
    """The transforms complex [..., F, M] of sources, of maps [..., 4 or 3, F, M] and the mixture's [..., F, M].

    Maps are the mask's logit, two that the real and the imaginary part of the direction P are the tanh of, as in the
    authors' code, and Q if there is one. Where P or X is zero, the source is, and gradients are finite.
    """
    mask, real, imaginary, *direct = maps.unbind(dim=-3)
    real, imaginary = real.tanh(), imaginary.tanh()
    loudness = transform.abs()
    magnitude = mask.sigmoid() * loudness
    if direct:
        magnitude = F.relu(magnitude + direct[0])
    length = (real.square() + imaginary.square()).clamp(min=SHORTEST**2).sqrt()
    return torch.complex(real / length, imaginary / length) * (transform / loudness.clamp(min=FAINTEST)) * magnitude


class ResUNet(HearsClasses):
    """A `cocktail.types.Separator`, and a `Classifier` with a class head."""

    def __init__(self, config: ResUNetConfig, num_classes: int) -> None:
        super().__init__()
        self.config = config
        self.num_classes = num_classes
        num_outputs = 1 if config.sources == "asked" else config.outputs_of(num_classes)
        self.front_end = ShortTimeTransform(config.n_fft, config.hop_length)
        self.network = ResidualUNet(config, num_outputs, num_classes)
        self.class_head = ClassHead(config.channels[-1], num_classes) if config.class_head else None
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def _apply_network(self, mixture: Tensor, class_ids: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
        """Transforms [B, K, F, M] of estimates of mixtures [B, T], the features that they are made of, [B, K, D, F, M]
        or, where all are made of the same, [B, 1, D, F, M], and the logits [B, C] of a class head.

        K is the number of outputs; with sources `asked` that of the classes [B, N], of which NO_CLASS has zeros.
        """
        transform = self.front_end.stft(mixture)
        bottom, skips = self.network.encode(transform.abs())
        logits = self._logits(bottom)
        asked = class_ids if self.config.sources == "asked" else None
        F_, M = transform.shape[-2:]
        maps, features = self.network.decode(bottom, skips, (F_, M), asked)
        if asked is None:
            return turned_and_masked(maps, transform[:, None]), features[:, None], logits
        named = asked >= 0
        rows, _ = named.nonzero(as_tuple=True)
        sources = turned_and_masked(maps[:, 0], transform[rows])
        transforms, all_features = (
            each.new_zeros(*asked.shape, *each.shape[1:]).index_put((named,), each) for each in (sources, features)
        )
        return transforms, all_features, logits

    def forward(self, batch: MixtureBatch) -> dict[str, Tensor]:
        """Losses: the mean absolute error of waveforms, and that of the class head.

        Sources that are asked for have no silent others: the mean is over those that are present.
        """
        mixture, references = mix(batch)
        transforms, _, logits = self._apply_network(mixture, batch.class_ids)
        estimates = self.front_end.istft(transforms, mixture.shape[-1])
        if self.config.sources == "asked":
            separation = mean_over_sources((estimates - references).abs().mean(dim=-1), batch.present)
        else:
            stems = self.config.sources == "stems"
            separation = separation_loss("l1", estimates, references, batch, stems=stems)
        losses = {"separation": separation}
        if logits is not None:
            losses["presence"] = presence_loss(logits, self.heard(batch))
            separation = separation + self.config.class_loss_weight * losses["presence"]
        return {**losses, "total": separation}

    def presence_logits(self, mixture: Tensor) -> Tensor | None:
        return self._logits(self.network.encode(self.front_end.stft(mixture).abs())[0])

    def _logits(self, bottom: Tensor) -> Tensor | None:
        """Logits [B, C] of each class being heard, of the bottom [B, D, ...]; None without a class head."""
        return None if self.class_head is None else at_least_float32(self.class_head(bottom))

    @torch.no_grad()
    def separate(self, mixture: Tensor, query: Query) -> Separation:
        """Estimates [B, K, T] of mixtures: of the named classes, or all outputs, with no class, the loudest first.

        Raises UsageError if more sources are asked for than there are outputs, or none by name where the model goes by
        names.
        """
        anonymous, stems = (self.config.sources == kind for kind in ("anonymous", "stems"))
        if anonymous:
            require_room(query, self.config.outputs)
        named = None if anonymous else query.named
        transforms, features, logits = self._apply_network(mixture, named)
        if stems and named is not None:
            transforms = of_classes(transforms, named) * (named >= 0)[..., None, None]
        estimates = self.front_end.istft(transforms, mixture.shape[-1])
        vectors = self._source_vectors(features, transforms.abs())
        if named is None:
            order = loudest_first(estimates)
            estimates, vectors = (each.take_along_dim(order[..., None], dim=1) for each in (estimates, vectors))
            named = torch.full_like(order, NO_CLASS)
        intermediates = {"source_vectors": vectors}
        if logits is not None:
            intermediates["presence"] = logits.sigmoid()
        return Separation(estimates=estimates.clamp(-1.0, 1.0), class_ids=named, intermediates=intermediates)

    def _source_vectors(self, features: Tensor, magnitudes: Tensor) -> Tensor:
        """Vectors [B, K, D] of estimates: means of features [B, K or 1, D, F, M] where the estimate is loud."""
        weights = magnitudes[:, :, : self.network.num_rows]
        weights = weights / weights.sum(dim=(2, 3), keepdim=True).clamp(min=FAINTEST)
        features = at_least_float32(features).expand(-1, weights.shape[1], -1, -1, -1)
        return torch.einsum("bkdfm,bkfm->bkd", features, weights)
