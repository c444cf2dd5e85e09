"""The mean power spectrum of each class, and separation by it: an equaliser a class that is the same for all time.

A control: it is told the classes of a mixture's sources, as a model is in its test, and hears nothing else of them. The
Wiener filter of stationary sources passes each frequency by the source's share of the mean power; the binary one gives
it to the class with the most.

Shape letters: B batch, N sources, C classes, T samples, F frequency bins, M frames in time.
"""

from __future__ import annotations

import base64
import binascii
import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from cocktail.audio.stft import FrontEnd, FrontEndConfig

CLASS_MEAN_BINARY, CLASS_MEAN_WIENER = "class mean spectrum, binary", "class mean spectrum, Wiener"

WINDOW_SECONDS, HOP_SECONDS = 1022 / 11025, 256 / 11025
"""The window and hop of SGN's front end, in seconds: other rates have as many samples as last as long."""
MOST_VALUES = 1 << 21
"""Classes times bins of the largest spectra that a checkpoint carries: 8 MiB of values."""
_FRAMES_AT_ONCE = 512


def grid_at(sample_rate_hz: int) -> FrontEndConfig:
    """The transform for sound of a rate, in Hz: a window of 92.7 ms, every 23.2 ms."""
    n_fft = 2 * max(round(WINDOW_SECONDS * sample_rate_hz / 2), 1)
    hop_length = min(max(round(HOP_SECONDS * sample_rate_hz), 1), n_fft // 2)
    return FrontEndConfig(n_fft=n_fft, hop_length=hop_length)


def num_bins_at(sample_rate_hz: int) -> int:
    """F at a rate, in Hz."""
    return grid_at(sample_rate_hz).n_fft // 2 + 1


def power_shares(sound: np.ndarray, sample_rate_hz: int) -> np.ndarray:
    """The share of a sound's power in each bin, float64 [F], of samples [T] in any scale; one-sided, adds up to 1.

    It is a mean over all frames, so silent stretches leave it as it is. A sound must not be silent throughout.
    """
    return power_shares_of_pieces([sound], sample_rate_hz)


def power_shares_of_pieces(pieces: Iterable[np.ndarray], sample_rate_hz: int) -> np.ndarray:
    """`power_shares` of a sound that comes in pieces [T], one after the other: the same bits, wherever it is cut.

    A piece is done with when the next one is asked for, and memory does not grow with their number.
    """
    grid = grid_at(sample_rate_hz)
    power = torch.zeros(grid.n_fft // 2 + 1, dtype=torch.float64)
    border, held = np.zeros(grid.n_fft // 2, np.float32), torch.empty(0)
    group = (_FRAMES_AT_ONCE - 1) * grid.hop_length + grid.n_fft
    for piece in itertools.chain([border], pieces, [border]):
        held = torch.cat([held, torch.from_numpy(piece.astype(np.float32))])
        while len(held) >= group:
            power += _power(held[:group], grid)
            held = held[_FRAMES_AT_ONCE * grid.hop_length :]
    if len(held) >= grid.n_fft:
        power += _power(held, grid)
    power[1:-1] *= 2  # what has a mirror image among the negative frequencies
    assert power.sum() > 0, "a silent sound has no spectrum"
    return (power / power.sum()).numpy()


def _power(samples: Tensor, grid: FrontEndConfig) -> Tensor:
    """The sum of the frames' power in each bin, float32 [F]."""
    frames = samples.unfold(-1, grid.n_fft, grid.hop_length) * torch.hann_window(grid.n_fft, periodic=True)
    return torch.view_as_real(torch.fft.rfft(frames)).square().sum(dim=(0, 2))


@dataclass(frozen=True, kw_only=True, eq=False)
class ClassSpectra:
    """Mean power spectra of C classes, measured on clips of one class each."""

    sample_rate_hz: int
    power: np.ndarray
    """float32 [C, F]: the mean of the clips' `power_shares`; zeros of a class without clips."""
    num_clips: np.ndarray
    """int64 [C]: the clips that a class was measured on."""

    @property
    def frequencies_hz(self) -> np.ndarray:
        """Frequency of each bin, float64 [F]."""
        return np.arange(self.power.shape[1]) * self.sample_rate_hz / grid_at(self.sample_rate_hz).n_fft

    def know(self, class_ids: Tensor, present: Tensor) -> Tensor:
        """bool [B]: the mixtures all of whose sources, int64 and bool [B, N], are of a class that was measured."""
        measured = torch.from_numpy(self.num_clips > 0).to(class_ids.device)
        known = (class_ids >= 0) & (class_ids < len(measured)) & measured[class_ids.clamp(0, len(measured) - 1)]
        return (known | ~present).all(dim=1)

    def masks(self, class_ids: Tensor, present: Tensor) -> dict[str, Tensor]:
        """The gain of each source in each bin, float32 [B, N, F], by the control's name; mixtures as `know` takes them.

        Sources of one class have equal shares; a bin in which two classes are equally strong, or none is heard, goes to
        that of the first source among them, or equally to all (Wiener). Of mixtures that are not known all is 0.
        """
        there = present & self.know(class_ids, present)[:, None]
        power = torch.from_numpy(self.power).to(class_ids.device)[class_ids.clamp(0, len(self.power) - 1)]
        strongest = power.masked_fill(~there[..., None], -1.0).argmax(dim=1)
        winner = class_ids.gather(1, strongest)
        won = ((class_ids[..., None] == winner[:, None]) & there[..., None]).float()
        power = power * there[..., None]
        heard = power.sum(dim=1, keepdim=True) > 0
        power = torch.where(heard, power, there[..., None].float())
        return {
            CLASS_MEAN_BINARY: won / won.sum(dim=1, keepdim=True).clamp(min=1),
            CLASS_MEAN_WIENER: power / power.sum(dim=1, keepdim=True).clamp(min=torch.finfo(power.dtype).tiny),
        }

    @torch.no_grad()
    def separate(self, mixture: Tensor, class_ids: Tensor, present: Tensor) -> dict[str, Tensor]:
        """Estimates float32 [B, N, T], in [-1, 1], of mixtures [B, T], by the control's name: its masks times the
        mixture's transform, whose phases stay."""
        front_end = FrontEnd(grid_at(self.sample_rate_hz)).to(mixture.device)
        length = mixture.shape[-1]
        # To whole hops, since no more comes back; and no shorter than what reflection at the borders takes.
        hops = -(-max(length, front_end.config.n_fft) // front_end.config.hop_length)
        transform = front_end.stft(F.pad(mixture, (0, hops * front_end.config.hop_length - length)))
        return {
            name: front_end.istft(transform[:, None] * mask[..., None])[..., :length].clamp(-1.0, 1.0)
            for name, mask in self.masks(class_ids, present).items()
        }

    def to_plain(self) -> dict[str, Any]:
        """Plain values that `of_plain` takes, for JSON."""
        return {
            "sample_rate_hz": self.sample_rate_hz,
            "num_clips": self.num_clips.tolist(),
            "power": base64.b64encode(self.power.astype("<f4").tobytes()).decode(),
        }

    @classmethod
    def of_plain(cls, values: Any, num_classes: int, sample_rate_hz: int) -> ClassSpectra:
        """The spectra of so many classes at a rate, in Hz, whoever wrote the values.

        Raises ValueError, whose message goes on after the name of what is wrong, for anything else.
        """
        if not isinstance(values, Mapping) or values.get("sample_rate_hz") != sample_rate_hz:
            raise ValueError(f"holds no spectra at {sample_rate_hz} Hz")
        counts, num_bins = values.get("num_clips"), num_bins_at(sample_rate_hz)
        if not isinstance(counts, list) or len(counts) != num_classes or not all(map(_is_count, counts)):
            raise ValueError(f"does not say how many clips each of {num_classes} classes has")
        power = _decoded(values.get("power"), num_classes, num_bins)
        totals = power.sum(axis=1, dtype=np.float64)
        measured = np.array(counts, np.int64) > 0
        # Not a number is neither.
        if not ((power >= 0).all() and np.all(np.abs(totals - measured) < 1e-3)):
            raise ValueError("holds no shares of power that add up to 1")
        return cls(sample_rate_hz=sample_rate_hz, power=power, num_clips=np.array(counts, np.int64))


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 53


def _decoded(text: object, num_classes: int, num_bins: int) -> np.ndarray:
    """The values float32 [C, F] that are written in base64. Raises ValueError for others, and for more than may be."""
    size = 4 * num_classes * num_bins
    if num_classes * num_bins > MOST_VALUES:
        raise ValueError(f"would have more than {MOST_VALUES} values")
    if not isinstance(text, str) or len(text) != -(-size // 3) * 4:
        raise ValueError(f"holds no {num_classes} times {num_bins} values")
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"holds no base64 ({error})") from error
    if len(data) != size:
        raise ValueError(f"holds no {num_classes} times {num_bins} values")
    return np.frombuffer(data, "<f4").astype(np.float32).reshape(num_classes, num_bins)
