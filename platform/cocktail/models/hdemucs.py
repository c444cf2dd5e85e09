"""Hybrid Demucs (Défossez, "Hybrid Spectrogram and Waveform Source Separation", MDX workshop at ISMIR 2021), by
torchaudio's network.

Two U-Nets, one over the spectrogram and one over the waveform, which share their deepest layers and whose outputs are
added. It was made for the stems of songs: one output a class.

Shape letters: B batch, K outputs, T samples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Self

from torch import Tensor
from torch.nn import functional as F
from torchaudio.models import HDemucs as Network

from cocktail.audio.mixing import mix
from cocktail.config.mixing import Mixing
from cocktail.layers.waveform_separator import WaveformSeparator, WaveformSeparatorConfig
from cocktail.losses.waveform import WaveformLoss, separation_loss
from cocktail.types import MixtureBatch, require

WINDOW_SECONDS = 4096 / 44100
DEPTHS = {1024: 5, 2048: 6, 4096: 6}
"""Layers of torchaudio's networks by the length of their transform: with others the two U-Nets would not meet."""


@dataclass(frozen=True, kw_only=True)
class HDemucsConfig(WaveformSeparatorConfig):
    """The paper's network, of one channel in and one a stem out, as all sound here is mono."""

    packages: ClassVar[tuple[str, ...]] = ("torchaudio",)

    sources: Literal["anonymous", "stems"] = "stems"
    """Sources, and who names them. Stems have an output for each class of the data set, 32 at most, as the paper's
    four. Anonymous ones come in any order, and are trained and scored in the best."""
    n_fft: Literal[1024, 2048, 4096] = 4096
    """Length of the transform, in samples; a frame each quarter of it. The paper's 4096 are 93 ms at its 44.1 kHz. All
    of the network counts in samples, so at another rate all that it hears is stretched: at 11,025 Hz 4096 are 372 ms,
    and 1024 are 93 ms again, with a layer less, which is torchaudio's network for 8 kHz; 2048 is that for 16 to 32
    kHz. Jobs propose what is nearest to 93 ms at the rate of their data set."""
    loss: Literal["l1", "si_sdr"] = "l1"
    """Loss of waveforms: the mean absolute error, the paper's, or minus the SI-SDR in dB, which speech separators learn
    by. SI-SDR knows neither levels nor silence: estimates get the level at which they leave the least of the mixture,
    and outputs that no source stands for learn nothing."""
    channels: int = 48
    """Channels of the first layer of both U-Nets, a multiple of 4; each layer has twice as many as the one before."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.n_fft in DEPTHS, f"n_fft must be one of {', '.join(map(str, DEPTHS))}, not {self.n_fft}")
        require(self.channels >= 4 and self.channels % 4 == 0, f"channels must be a multiple of 4, not {self.channels}")

    def fitted_to(self, mixing: Mixing) -> Self:
        """The transform that is nearest to the paper's 93 ms at the mixtures' rate."""
        samples = mixing.sample_rate_hz * WINDOW_SECONDS
        return replace(self, n_fft=min(DEPTHS, key=lambda n_fft: abs(math.log(n_fft / samples))))

    def build(self, num_classes: int) -> HDemucs:
        """The network for a list of classes, freshly initialised from torch's random state."""
        return HDemucs(self, num_classes)


SMALL_HDEMUCS = HDemucsConfig(sources="anonymous", n_fft=1024, loss="si_sdr", channels=8)
"""Half a million parameters at 11,025 Hz, for some minutes on two cores; two outputs, as each more costs as much."""


class HDemucs(WaveformSeparator):
    """A `cocktail.types.Separator`."""

    def __init__(self, config: HDemucsConfig, num_classes: int) -> None:
        super().__init__(config, any_level=config.loss == "si_sdr")
        self.loss: WaveformLoss = config.loss
        self.least_samples = config.n_fft
        names = [str(output) for output in range(config.outputs_of(num_classes))]  # torchaudio only counts them
        self.network = Network(
            names,
            audio_channels=1,
            channels=config.channels,
            nfft=config.n_fft,
            depth=DEPTHS[config.n_fft],
            dconv_init=1e-3,  # the authors' recipe; torchaudio's default is a tenth of it
        )

    def waveforms(self, mixture: Tensor) -> Tensor:
        """Outputs [B, K, T] of mixtures [B, T], shorter ones than the transform filled up with zeros: torchaudio's
        network fails for those."""
        T = mixture.shape[-1]
        whole = F.pad(mixture, (0, max(self.least_samples - T, 0)))
        return self.network(whole[:, None]).squeeze(2)[..., :T]

    def forward(self, batch: MixtureBatch) -> dict[str, Tensor]:
        """Loss: the mean absolute error of waveforms, or minus their SI-SDR in dB."""
        mixture, references = mix(batch)
        loss = separation_loss(self.loss, self.waveforms(mixture), references, batch, stems=self.stems)
        return {"separation": loss, "total": loss}
