"""Masks of a model's grid, put on a recording at its own rate and channels.

A short-time transform of the recording has a window and a hop as long in seconds as the model's; at another rate than
the model's the window may be a hundredth longer or shorter, to a length that is fast to transform. Masks are read
between its frames and bins where they do not fall on the model's. Above the model's band a mask goes on as its mean
over the octave below, frame by frame: what lies up there (bow noise, cymbals, breath) sounds when the source sounds
below, so it goes where that goes, and a stem does not get dull; a model that hears up to 5.5 kHz cannot know better.

Shape letters: C channels, N sources, T samples, F bins of the model, Q bins of the recording's transform, M frames of
the model, J frames of the recording.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from cocktail.audio.stft import ShortTimeTransform

FRAMES_AT_ONCE = 64
"""Frames that are transformed together."""
_FAST_FACTORS = (2, 3, 5, 7)
"""Prime factors of lengths that are fast to transform."""
_MOST_LONGER = 0.01
"""By how much a window may differ in length from the model's."""


class MaskedRecording:
    """Takes samples and masks as they come, and gives the stems of what both are there for."""

    def __init__(
        self, grid: ShortTimeTransform, model_rate_hz: int, sample_rate_hz: int, num_channels: int, num_sources: int
    ) -> None:
        ratio = sample_rate_hz / model_rate_hz
        self.n_fft = grid.n_fft if ratio == 1 else fast_even_length(grid.n_fft * ratio)
        self.hop = max(min(round(grid.hop_length * ratio), self.n_fft // 2), 1)
        self._frames_per_hop = self.hop / ratio / grid.hop_length
        """Frames of the model from one of the recording's to the next."""
        self._window = torch.hann_window(self.n_fft, periodic=True)
        self._set_bins(grid, model_rate_hz, sample_rate_hz)
        half = self.n_fft // 2
        self._half = half
        self._samples = np.zeros((num_channels, 0), np.float32)
        """From the first sample that the next frame needs on; the first half window is a mirror image."""
        self._mirrored = False
        self._masks = torch.zeros((num_sources, 0, grid.num_bins))
        """[N, M, F]."""
        self._first_mask = 0
        self._next_frame = 0
        self._sum = torch.zeros((num_sources, num_channels, 0))
        self._weights = torch.zeros(0)
        self._to_drop = half
        """Samples of the mirror image that are still to be left out."""

    def _set_bins(self, grid: ShortTimeTransform, model_rate_hz: int, sample_rate_hz: int) -> None:
        places = torch.arange(self.n_fft // 2 + 1, dtype=torch.float64)
        places = places * sample_rate_hz / self.n_fft * grid.n_fft / model_rate_hz
        top = grid.num_bins - 1
        self._above_band = places > top
        self._bins_below = places.floor().clamp(0, top).long()
        self._bins_above = (self._bins_below + 1).clamp(max=top)
        self._bin_weights = (places - self._bins_below).clamp(0, 1).float()
        self._octave = slice(top // 2, top + 1)

    def add_samples(self, samples: np.ndarray) -> None:
        """Add samples [C, any] of the recording."""
        self._samples = np.concatenate([self._samples, samples], axis=1)
        if not self._mirrored and self._samples.shape[1] > self._half:
            self._mirror_start()

    def add_masks(self, masks: Tensor) -> None:
        """Add masks [N, F, any] of further frames of the model."""
        self._masks = torch.cat([self._masks, masks.transpose(1, 2)], dim=1)

    def ready(self) -> np.ndarray:
        """Samples [N, C, any] of the stems that nothing to come changes."""
        pieces = []
        while self._mirrored:
            room = (self._samples.shape[1] - self.n_fft) // self.hop + 1
            known = self._first_mask + self._masks.shape[1]  # frames must lie before the last known one
            within = int(np.ceil((known - 1) / self._frames_per_hop)) - self._next_frame
            count = min(room, within, FRAMES_AT_ONCE)
            if count <= 0:
                break
            pieces.append(self._frames(count))
        return self._joined(pieces)

    def finish(self) -> np.ndarray:
        """The rest of the stems' samples [N, C, any], once all has been added."""
        if not self._mirrored:
            self._mirror_start()
        end = self._samples.shape[1]
        reflected = np.pad(self._samples, ((0, 0), (0, self._half)), mode=_mode(end))
        self._samples = reflected
        pieces = []
        while (count := min((self._samples.shape[1] - self.n_fft) // self.hop + 1, FRAMES_AT_ONCE)) > 0:
            pieces.append(self._frames(count))
        left = self._samples.shape[1] - self._half
        pieces.append(self._emit(left))
        return self._joined(pieces)

    def _mirror_start(self) -> None:
        self._samples = np.pad(self._samples, ((0, 0), (self._half, 0)), mode=_mode(self._samples.shape[1]))
        self._mirrored = True

    def _frames(self, count: int) -> np.ndarray:
        """Mask the next frames; the samples that are then complete."""
        size = (count - 1) * self.hop + self.n_fft
        held = torch.from_numpy(np.ascontiguousarray(self._samples[:, :size]))
        spectra = torch.fft.rfft(held.unfold(-1, self.n_fft, self.hop) * self._window)  # [C, J, Q]
        masks = self._masks_at(self._next_frame + torch.arange(count, dtype=torch.float64))
        self._grow(size)
        self._weights[:size] += self._overlapped(self._window.square().expand(1, count, -1))[0]
        for n, of_source in enumerate(masks):
            if not of_source.any():  # a stem that is silent here
                continue
            frames = torch.fft.irfft(spectra * of_source, self.n_fft) * self._window
            self._sum[n, :, :size] += self._overlapped(frames)
        self._samples = self._samples[:, count * self.hop :]
        self._next_frame += count
        self._forget_masks()
        return self._emit(count * self.hop)

    def _overlapped(self, frames: Tensor) -> Tensor:
        """The sum [C, T] of frames [C, J, n_fft], each a hop behind the one before."""
        C, J, size = frames.shape
        parts = -(-size // self.hop)  # hops that a frame reaches over
        cut = torch.nn.functional.pad(frames, (0, parts * self.hop - size)).view(C, J, parts, self.hop)
        total = frames.new_zeros(C, J + parts - 1, self.hop)
        for part in range(parts):
            total[:, part : part + J] += cut[:, :, part]
        return total.flatten(1)[:, : (J - 1) * self.hop + size]

    def _masks_at(self, frames: Tensor) -> Tensor:
        """Masks [N, J, Q] of frames of the recording, by their numbers."""
        last = self._masks.shape[1] - 1
        places = (frames * self._frames_per_hop - self._first_mask).clamp(0, last)
        below = (places + 1e-9).floor().long()
        weights = (places - below).clamp(0, 1).float()[:, None]
        before, after = (self._masks.index_select(1, each) for each in (below, (below + 1).clamp(max=last)))
        in_time = torch.lerp(before, after, weights)
        lower, upper = (in_time.index_select(-1, bins) for bins in (self._bins_below, self._bins_above))
        masks = torch.lerp(lower, upper, self._bin_weights)
        if self._above_band.any():
            masks[..., self._above_band] = in_time[..., self._octave].mean(dim=-1, keepdim=True)
        return masks

    def _forget_masks(self) -> None:
        needed = int(self._next_frame * self._frames_per_hop)
        if (count := min(needed - self._first_mask, self._masks.shape[1] - 1)) > 0:
            self._masks = self._masks[:, count:]
            self._first_mask += count

    def _grow(self, size: int) -> None:
        if (missing := size - len(self._weights)) > 0:
            self._sum = torch.nn.functional.pad(self._sum, (0, missing))
            self._weights = torch.nn.functional.pad(self._weights, (0, missing))

    def _emit(self, count: int) -> np.ndarray:
        count = min(count, len(self._weights))
        samples = self._sum[..., :count] / self._weights[:count].clamp(min=1e-8)
        self._sum, self._weights = self._sum[..., count:].clone(), self._weights[count:].clone()
        dropped = min(self._to_drop, count)
        self._to_drop -= dropped
        return samples[..., dropped:].numpy()

    def _joined(self, pieces: list[np.ndarray]) -> np.ndarray:
        empty = np.zeros((*self._sum.shape[:2], 0), np.float32)
        return np.concatenate([empty, *pieces], axis=-1)


def fast_even_length(samples: float) -> int:
    """The even length next to one that is fast to transform, or, where none is near, simply the next."""
    nearest = 2 * max(round(samples / 2), 1)
    reach = int(_MOST_LONGER * samples / 2)
    near = sorted(range(nearest - 2 * reach, nearest + 2 * reach + 1, 2), key=lambda length: abs(length - samples))
    return next((length for length in near if length > 0 and _is_fast(length)), nearest)


def _is_fast(length: int) -> bool:
    for factor in _FAST_FACTORS:
        while length % factor == 0:
            length //= factor
    return length == 1


def _mode(size: int) -> Literal["reflect", "edge"]:
    """How a signal goes on behind its ends: mirrored without repeating its last sample, unless it is the only one."""
    return "reflect" if size > 1 else "edge"
