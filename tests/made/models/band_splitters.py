"""Separators with nothing to learn that know two bands, to hold what is done with recordings against: what is low is
class 0's, what is high is class 1's.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from cocktail.audio.stft import FrontEnd, FrontEndConfig
from cocktail.config.evaluation import Evaluation
from cocktail.config.mixing import Mixing
from cocktail.config.model import ModelConfig
from cocktail.inference.trained import Trained
from cocktail.types import NO_CLASS, Query, Separation

RATE = 8000
LENGTH = 64 * 256 - 1
BORDER_HZ = 1000
CLASSES = ("low, or so", "high")
HEARD_RMS = 0.01
"""Root mean square of a band from which on its class is there."""


class Bands(ModelConfig):
    """Their settings: none."""

    sees: ClassVar[bool] = False

    def build(self, num_classes: int) -> Any:
        raise NotImplementedError


class MaskingBands(nn.Module):
    """Answers for classes by soft masks, and says which it hears."""

    def __init__(self) -> None:
        super().__init__()
        self.front_end = FrontEnd(FrontEndConfig(n_fft=510, hop_length=128, num_rows=64))
        self.asked: list[int] = []
        """Sizes of the batches that were asked for."""

    def forward(self, batch: Any) -> Any:
        raise NotImplementedError

    def separate(self, mixture: Tensor, query: Query) -> Separation:
        self.asked.append(len(mixture))
        transform = self.front_end.stft(mixture)
        rows, last = torch.arange(64), 63
        hz = RATE / 2 * (21 ** (rows / last) - 1) / 20
        low = (hz < BORDER_HZ).float()
        bands = torch.stack([low, 1 - low])[query.named.clamp(min=0)] * (query.named >= 0)[..., None]
        masks = bands[..., None].expand(*bands.shape, transform.shape[-1]).contiguous()
        power = transform.abs().square().sum(dim=-1)
        edge = int(BORDER_HZ / RATE * 510)
        energies = torch.stack([power[:, :edge].sum(dim=1), power[:, edge:].sum(dim=1)], dim=1)
        loud = (energies / transform.shape[-1] / 510).sqrt() / 8
        return Separation(
            estimates=self.front_end.apply_soft_mask(transform, masks),
            masks=masks,
            class_ids=query.named,
            intermediates={"presence": loud / (loud + HEARD_RMS)},
        )


class UnorderedBands(nn.Module):
    """Answers with two waveforms in an order that changes from window to window, as networks without classes do."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0
        self.numbers: list[int] = []
        """Of each question, how many sources it was for."""

    def forward(self, batch: Any) -> Any:
        raise NotImplementedError

    def separate(self, mixture: Tensor, query: Query) -> Separation:
        self.numbers.append(int(query.num_sources.max()))
        spectrum = torch.fft.rfft(mixture)
        border = int(BORDER_HZ / (RATE / 2) * (spectrum.shape[-1] - 1))
        low = spectrum.clone()
        low[:, border:] = 0
        parts = torch.stack([torch.fft.irfft(part, mixture.shape[-1]) for part in (low, spectrum - low)], dim=1)
        for row in parts:
            self.calls += 1
            if self.calls % 3 == 0:
                row.copy_(row.flip(0).clone())
        return Separation(estimates=parts, class_ids=torch.full((len(mixture), 2), NO_CLASS))


def trained(model: nn.Module) -> Trained:
    """A separator of bands as it comes out of a checkpoint."""
    return Trained(
        name="bands",
        config=Bands(),
        settings={},
        model=model.eval(),
        mixing=Mixing(sample_rate_hz=RATE, segment_samples=LENGTH),
        evaluation=Evaluation(),
        classes=CLASSES,
        data="",
    )


def two_tones(seconds: float, rate_hz: int, low: tuple[float, float], high: tuple[float, float]) -> np.ndarray:
    """Tones of 300 and 2500 Hz, float32 [2, T], each from one time in s to another, and silent around."""
    time = np.arange(int(seconds * rate_hz)) / rate_hz
    tones = []
    for hz, (start, end) in ((300, low), (2500, high)):
        tones.append(0.2 * np.sin(2 * np.pi * hz * time) * ((time >= start) & (time < end)))
    return np.array(tones, np.float32)
