"""The short-time Fourier transform and its inverse, and the log-frequency front end of mask-based separation on it.

The front end warps the transform's frequency axis to logarithmically spaced rows; a mask predicted on the
warped grid goes back through the unwarp and multiplies the mixture's own transform (Sound of Pixels,
ECCV 2018; SGN section III with the recipe that it takes over).

Shape letters: T samples, F linear frequency bins, R log-frequency rows, M frames in time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class FrontEndConfig:
    """Transform and grid. The defaults turn 65535 samples into 256 x 256."""

    n_fft: int = 1022
    """Length of the window and of the transform, in samples."""
    hop_length: int = 256
    """Samples between frames."""
    num_rows: int = 256
    """Log-frequency rows that the network sees."""

    def __post_init__(self) -> None:
        if not 0 < self.hop_length <= self.n_fft // 2:
            raise ValueError(f"hop_length must be in 1..n_fft/2 = {self.n_fft // 2}, not {self.hop_length}")
        if self.num_rows < 2:
            raise ValueError(f"num_rows must be at least 2, not {self.num_rows}")


class ShortTimeTransform(nn.Module):
    """STFT with a periodic Hann window, or its square root, centred, reflected at the borders; its inverse; masks.

    All of it runs in batch, in float32 (after `double()` in float64), and leaves no parameters in a checkpoint.
    """

    def __init__(self, n_fft: int, hop_length: int, window: Literal["hann", "sqrt_hann"] = "hann") -> None:
        super().__init__()
        self.n_fft = n_fft
        self.hop_length = hop_length
        self.num_bins = n_fft // 2 + 1
        hann = torch.hann_window(n_fft, periodic=True)
        self.register_buffer("window", hann if window == "hann" else hann.sqrt(), persistent=False)

    def stft(self, waveform: Tensor) -> Tensor:
        """Complex transform [..., F, M] of waveforms [..., T], with M = 1 + T // hop_length."""
        window = self.get_buffer("window")
        with torch.autocast(waveform.device.type, enabled=False):
            flat = torch.stft(
                waveform.to(window.dtype).reshape(-1, waveform.shape[-1]),
                self.n_fft,
                hop_length=self.hop_length,
                window=window,
                center=True,
                pad_mode="reflect",
                return_complex=True,
            )
        return flat.reshape(*waveform.shape[:-1], *flat.shape[-2:])

    def istft(self, transform: Tensor, length: int | None = None) -> Tensor:
        """Waveforms of complex transforms [..., F, M]: [..., (M - 1) * hop_length], or of a `length` in samples.

        A length of T gives all of a waveform back whose transform it is. What lies behind the last frame's middle is
        then of that frame alone: with hops of a third of n_fft at most, where its window is above a quarter.
        """
        with torch.autocast(transform.device.type, enabled=False):
            flat = torch.istft(
                transform.reshape(-1, *transform.shape[-2:]),
                self.n_fft,
                hop_length=self.hop_length,
                window=self.get_buffer("window"),
                center=True,
                length=length,
            )
        return flat.reshape(*transform.shape[:-2], flat.shape[-1])

    def warp(self, linear: Tensor) -> Tensor:
        """Rows of the grid that masks are on, [..., R, M], of linear bins [..., F, M]: here the bins themselves."""
        return linear

    def unwarp(self, rows: Tensor) -> Tensor:
        """Linear bins [..., F, M] of the grid's rows [..., R, M]."""
        return rows

    def apply_binary_mask(self, transform: Tensor, masks: Tensor, threshold: float = 0.5) -> Tensor:
        """Estimates [B, N, (M - 1) * hop_length] in [-1, 1] from the mixture's transform [B, F, M].

        The masks [B, N, R, M] are unwarped first and cut at the threshold after, as Sound of Pixels does.
        """
        return self._masked(transform, self.unwarp(masks.float()) > threshold)

    def apply_soft_mask(self, transform: Tensor, masks: Tensor) -> Tensor:
        """Estimates as `apply_binary_mask` gives them, by the unwarped masks themselves."""
        return self._masked(transform, self.unwarp(masks.float()))

    def _masked(self, transform: Tensor, linear_masks: Tensor) -> Tensor:
        return self.istft(transform[:, None] * linear_masks).clamp(-1.0, 1.0)


class FrontEnd(ShortTimeTransform):
    """STFT with a periodic Hann window, the warp, and both inverses.

    All of it runs in batch, in float32, on the device of its input, and leaves no parameters in a checkpoint.
    """

    def __init__(self, config: FrontEndConfig) -> None:
        super().__init__(config.n_fft, config.hop_length)
        self.config = config
        top, rows = self.num_bins - 1, config.num_rows - 1
        warp = torch.arange(config.num_rows, dtype=torch.float64) / rows
        unwarp = torch.arange(self.num_bins, dtype=torch.float64) / top
        self._add_interpolation("warp", top * (21**warp - 1) / 20, self.num_bins)
        self._add_interpolation("unwarp", rows * torch.log1p(20 * unwarp) / math.log(21), config.num_rows)

    def _add_interpolation(self, name: str, positions: Tensor, length: int) -> None:
        below = positions.floor().clamp(0, length - 1)
        self.register_buffer(f"{name}_below", below.long(), persistent=False)
        self.register_buffer(f"{name}_above", (below + 1).clamp(max=length - 1).long(), persistent=False)
        self.register_buffer(f"{name}_weight", (positions - below).float()[:, None], persistent=False)

    def _interpolate(self, name: str, values: Tensor) -> Tensor:
        below = values.index_select(-2, self.get_buffer(f"{name}_below"))
        above = values.index_select(-2, self.get_buffer(f"{name}_above"))
        return torch.lerp(below, above, self.get_buffer(f"{name}_weight").to(values.dtype))

    def warp(self, linear: Tensor) -> Tensor:
        """Log-frequency rows [..., R, M] of linear bins [..., F, M].

        Row r reads bin (F - 1)(21^(r / (R - 1)) - 1) / 20, bilinear in frequency.
        """
        return self._interpolate("warp", linear)

    def unwarp(self, rows: Tensor) -> Tensor:
        """Linear bins [..., F, M] of log-frequency rows [..., R, M].

        Bin q reads row (R - 1) ln(1 + 20 q / (F - 1)) / ln 21.
        """
        return self._interpolate("unwarp", rows)
