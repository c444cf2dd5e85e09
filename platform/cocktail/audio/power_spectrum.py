"""The logarithmic power spectral density that AVGN and its kin hear by.

AVGN prints 257 bins and 300 frames for three seconds; no window and hop that it names give both. A window of 512
samples gives the bins, and of all hops only 219 gives 300 frames of 66150 samples (3 s at 22050 Hz) without padding.
The authors' code has hop 238. Both are here; what is done with the frames is the code's: constant detrending, a
Tukey(0.25) window, one-sided density, the logarithm, and a division by 12.

Shape letters: B batch, T samples, F frequency bins, M frames in time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

N_FFT = 512
"""Length of the window and of the transform, in samples."""
NUM_BINS = N_FFT // 2 + 1
_TAPERED_SHARE = 0.25
_FLOOR = 1e-7
"""Added to the density, which for a full-scale signal is about 1e-4 per Hz."""
_SCALE = 12.0
_HOPS = {"paper300": 219, "code238": 238}


@dataclass(frozen=True, kw_only=True)
class PowerSpectrumConfig:
    """Settings by which sound becomes a picture."""

    hop: Literal["paper300", "code238"] = "paper300"
    """219 samples, which give the paper's 300 frames for 3 s at 22050 Hz, or the code's 238, which give 276."""
    sample_rate_hz: int = 22050
    """Rate of the sound, in Hz: the mixtures must have it."""

    @property
    def hop_length(self) -> int:
        """Samples between frames."""
        return _HOPS[self.hop]


class LogPowerSpectrum(nn.Module):
    """Scaled log power ln(S + 1e-7) / 12, float32 [B, 1, F, M], of waveforms [B, T] in full scale 1; S is one-sided,
    per Hz."""

    def __init__(self, config: PowerSpectrumConfig) -> None:
        super().__init__()
        self.config = config
        window = tukey_window(N_FFT, _TAPERED_SHARE)
        density = torch.full((NUM_BINS,), 2.0, dtype=torch.float64)
        density[0] = density[-1] = 1.0  # what has no mirror image among the negative frequencies
        density /= config.sample_rate_hz * window.square().sum()
        self.register_buffer("window", window.float(), persistent=False)
        self.register_buffer("density", density.float()[:, None], persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        with torch.autocast(waveform.device.type, enabled=False):
            frames = waveform.float().unfold(-1, N_FFT, self.config.hop_length)
            frames = (frames - frames.mean(dim=-1, keepdim=True)) * self.get_buffer("window")
            power = torch.fft.rfft(frames).abs().square().transpose(-1, -2) * self.get_buffer("density")
            return (torch.log(power + _FLOOR) / _SCALE)[:, None]


def tukey_window(length: int, tapered_share: float) -> Tensor:
    """A periodic Tukey window, float64 [length]: a cosine rise and fall over half the share each, flat between."""
    position = torch.arange(length, dtype=torch.float64) / length
    edge = torch.minimum(position, 1 - position).clamp(max=tapered_share / 2)
    return 0.5 * (1 - torch.cos(2 * math.pi * edge / tapered_share))
