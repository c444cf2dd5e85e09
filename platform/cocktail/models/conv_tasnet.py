"""Conv-TasNet (Luo and Mesgarani, "Conv-TasNet: Surpassing Ideal Time-Frequency Magnitude Masking for Speech
Separation", IEEE/ACM TASLP 2019), by torchaudio's network.

A learned filter bank in place of a spectrogram, masks on it by a stack of dilated convolutions that hears whole
seconds, and learned filters back. It learns by the SI-SDR of its estimates in the best order.

Shape letters: B batch, K outputs, T samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor
from torchaudio.models import ConvTasNet as Network

from cocktail.audio.mixing import mix
from cocktail.layers.waveform_separator import WaveformSeparator, WaveformSeparatorConfig
from cocktail.losses.waveform import separation_loss
from cocktail.types import MixtureBatch, require


@dataclass(frozen=True, kw_only=True)
class ConvTasNetConfig(WaveformSeparatorConfig):
    """The paper's network with global normalisation, the best one of its Table II, which looks ahead."""

    packages: ClassVar[tuple[str, ...]] = ("torchaudio",)

    sources: Literal["anonymous", "stems"] = "anonymous"
    """Sources, and who names them. Anonymous ones come in any order, and are trained and scored in the best. Stems have
    an output for each class of the data set, 32 at most (MUSDB18 has 4)."""
    filter_length: int = 16
    """Length L of the learned filters, in samples, which are half of it apart: 2 ms at the paper's 8 kHz, 1.5 ms at
    11,025 Hz."""
    num_filters: int = 512
    """Number N of learned filters."""
    width: int = 128
    """Channels B of the way around a block, and Sc of its way out, which torchaudio has alike, as the paper's best."""
    hidden_width: int = 512
    """Channels H within a block."""
    num_blocks: int = 8
    """Blocks X of a repeat; the dilation doubles from each to the next."""
    num_repeats: int = 3
    """Repeats R."""
    mask_activation: Literal["sigmoid", "relu"] = "sigmoid"
    """Function that makes masks of the last convolution; the paper chooses the sigmoid, torchaudio's trained network
    has relu."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("num_filters", "width", "hidden_width", "num_blocks", "num_repeats"):
            require(getattr(self, name) >= 1, f"{name} must be at least 1, not {getattr(self, name)}")
        length = self.filter_length
        require(
            length >= 2 and length % 2 == 0, f"filter_length must be even, as filters overlap by half, not {length}"
        )

    def build(self, num_classes: int) -> ConvTasNet:
        """The network for a list of classes, freshly initialised from torch's random state."""
        return ConvTasNet(self, num_classes)


SMALL_CONV_TASNET = ConvTasNetConfig(
    filter_length=64, num_filters=128, width=48, hidden_width=64, num_blocks=7, num_repeats=2
)
"""Two hundred thousand parameters on longer filters, for some minutes on two cores."""


class ConvTasNet(WaveformSeparator):
    """A `cocktail.types.Separator`."""

    def __init__(self, config: ConvTasNetConfig, num_classes: int) -> None:
        super().__init__(config, any_level=True)
        self.network = Network(
            num_sources=config.outputs_of(num_classes),
            enc_kernel_size=config.filter_length,
            enc_num_feats=config.num_filters,
            msk_kernel_size=3,  # the paper's P, and the only one that torchaudio pads for
            msk_num_feats=config.width,
            msk_num_hidden_feats=config.hidden_width,
            msk_num_layers=config.num_blocks,
            msk_num_stacks=config.num_repeats,
            msk_activate=config.mask_activation,
        )

    def waveforms(self, mixture: Tensor) -> Tensor:
        """Outputs [B, K, T] of mixtures [B, T], at any level."""
        return self.network(mixture[:, None])

    def forward(self, batch: MixtureBatch) -> dict[str, Tensor]:
        """Loss: minus the SI-SDR in dB, the mean over sources."""
        mixture, references = mix(batch)
        loss = separation_loss("si_sdr", self.waveforms(mixture), references, batch, stems=self.stems)
        return {"separation": loss, "total": loss}
