"""Sound as it comes out of a decoder, to int16 at one rate, piece by piece: a long file is never whole in memory."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import soxr
from av.audio.frame import AudioFrame

from cocktail.media.bad_clips import BadClip

SILENCE_DBFS = -60.0
"""A clip holds no sound to learn from if no sample, in the file or as stored, is farther than this from their mean.
In both: a resampler rings at the ends of a constant offset, and what is above half the stored rate is gone."""
CANCELLED_DB = -30.0
"""Channels whose mean has so much less energy than they have on average cancel each other. Of N channels that have
nothing in common it has 1/N."""
MAX_PEAK = 2.0
"""Full scale is 1. Lossy codecs go a little beyond; what goes farther is on another scale."""
CLIPPED_DB = -20.0
"""What lies beyond full scale is cut off, as players do. More of it, by the energy of the whole, is set aside."""
SAMPLE_RATES_HZ = (1_000, 768_000)
MAX_CHANNELS = 64
MAX_VALUES = 1_000_000_000
"""Samples times channels: ten minutes of eight channels at 192 kHz are just below."""

_VALUES_TO_FOLD = 1 << 20


def require_decodable(sample_rate_hz: int, num_channels: int, seconds: float) -> None:
    """Raise BadClip for a sound of an absurd rate, or of more values than a clip may have."""
    low, high = SAMPLE_RATES_HZ
    if not low <= sample_rate_hz <= high:
        raise BadClip("sample rate out of range", f"{sample_rate_hz} Hz, {low} to {high} Hz are taken")
    if num_channels > MAX_CHANNELS or sample_rate_hz * num_channels * seconds > MAX_VALUES:
        raise BadClip(
            "too costly",
            f"{num_channels} channels of {seconds:.1f} s at {sample_rate_hz} Hz; at most {MAX_CHANNELS} channels and "
            f"{MAX_VALUES} values are taken",
        )


@dataclass
class Sound:
    """A sound track while it is decoded."""

    stored_rate_hz: int
    start_seconds: float = 0.0
    """When its first sample is played."""
    end_seconds: float = 0.0
    """When its last one has been played: later than its samples last if some are missing on the way."""
    num_samples: int = 0
    """Samples of a channel, at the file's own rate."""
    rate_hz: int | None = None
    """Rate of the file; None before its first frame."""
    _layout: tuple[str, int] = ("", 0)
    _waiting: list[np.ndarray] = field(default_factory=list)
    _num_waiting: int = 0
    _stored: list[np.ndarray] = field(default_factory=list)
    _resampler: soxr.ResampleStream | None = None
    _low: float = math.inf
    _high: float = -math.inf
    _sum: float = 0.0
    _energy: float = 0.0
    _beyond_energy: float = 0.0
    """Energy of what lies beyond full scale."""
    _channel_energy: float = 0.0
    _mean_energy: float = 0.0

    @property
    def duration_seconds(self) -> float:
        return self.num_samples / self.rate_hz if self.rate_hz else 0.0

    def append(self, frame: AudioFrame) -> None:
        """Take a decoded frame. Channels and sample format may change on the way. Raises BadClip."""
        layout = (frame.format.name, frame.layout.nb_channels)
        if self.rate_hz is None:
            self.rate_hz = frame.sample_rate
            self.start_seconds = self.end_seconds = frame.time or 0.0
        if frame.sample_rate != self.rate_hz:
            raise BadClip(
                "decode error",
                f"the rate changes from {self.rate_hz} to {frame.sample_rate} Hz at {self.end_seconds:.2f} s",
            )
        if layout != self._layout:
            self._fold()
            self._layout = layout
        self.num_samples += frame.samples
        require_decodable(self.rate_hz, layout[1], self.duration_seconds)
        self._waiting.append(frame.to_ndarray())
        self._num_waiting += frame.samples * layout[1]
        if self._num_waiting >= _VALUES_TO_FOLD:
            self._fold()
        start = self.end_seconds if frame.time is None else frame.time
        self.end_seconds = start + frame.samples / frame.sample_rate

    def stored(self, keep_silent: bool) -> np.ndarray:
        """Mean of the channels, int16 [T] at the stored rate, rounded to the nearest step, full scale 32768.

        Raises BadClip for a sound on a scale of its own or clipped, and, unless silence is kept, for a silent one.
        Channels that cancel each other are no silence, and are never kept.
        """
        self._fold()
        if self._resampler is not None:
            self._store(self._resampler.resample_chunk(np.zeros(0, np.float32), last=True))
        largest = max(self._high, -self._low, 0.0)
        if largest > MAX_PEAK:
            raise BadClip("off scale", f"the loudest sample is {largest:.4g} times full scale")
        if self._beyond_energy > self._energy * 10 ** (CLIPPED_DB / 10):
            share = 10 * math.log10(self._beyond_energy / self._energy)
            raise BadClip(
                "clipped", f"what is beyond full scale, by up to {largest:.4g} times, has {share:.0f} dB of its energy"
            )
        samples = np.concatenate(self._stored) if self._stored else np.zeros(0, np.int16)
        limit = 10 ** (SILENCE_DBFS / 20)
        if np.sqrt(self._channel_energy / max(1, self.num_samples)) >= limit / 2 and (
            self._mean_energy < self._channel_energy * 10 ** (CANCELLED_DB / 10)
        ):
            raise BadClip("channels cancel", f"their mean has {_ratio_db(self._mean_energy, self._channel_energy)}")
        offset = self._sum / max(1, self.num_samples)
        peak = max(self._high - offset, offset - self._low, 0.0)
        if len(samples):
            mean = float(samples.mean())
            peak = min(peak, max(float(samples.max()) - mean, mean - float(samples.min())) / 32768)
        if peak < limit and not keep_silent:
            around = f" around a constant offset of {offset:.6f}" if abs(offset) > limit else ""
            raise BadClip(
                "silent", f"the loudest sample is {peak:.6f} of full scale{around}, below {SILENCE_DBFS:g} dBFS"
            )
        return samples

    def _fold(self) -> None:
        """Resample the mean of the channels of what has come."""
        if not self._waiting:
            return
        assert self.rate_hz is not None
        name, num_channels = self._layout
        samples = np.concatenate(self._waiting, axis=1)
        self._waiting.clear()
        self._num_waiting = 0
        if not name.endswith("p"):  # packed: channels are interleaved
            samples = samples.reshape(-1, num_channels).T
        mean = samples.mean(axis=0, dtype=np.float32)
        scale = 1.0
        if samples.dtype == np.uint8:
            mean, scale = (mean - 128) / 128, 128.0
        elif samples.dtype.kind != "f":
            scale = -float(np.iinfo(samples.dtype).min)
            mean = mean / np.float32(scale)
        low, high = float(mean.min()), float(mean.max())  # one that is no number makes both none
        if not (math.isfinite(low) and math.isfinite(high)):
            bad = np.flatnonzero(~np.isfinite(mean))
            first = (self.num_samples - len(mean) + bad[0]) / self.rate_hz
            raise BadClip("not finite", f"{len(bad)} samples, the first at {first:.3f} s")
        self._low, self._high = min(self._low, low), max(self._high, high)
        self._sum += float(mean.sum(dtype=np.float64))
        self._energy += float(np.dot(mean, mean))
        if max(high, -low) > 1:
            beyond = np.maximum(np.abs(mean) - 1, 0)
            self._beyond_energy += float(np.dot(beyond, beyond))
        if num_channels > 1:
            self._weigh(samples, mean, scale)
        if self._resampler is None:
            self._resampler = soxr.ResampleStream(self.rate_hz, self.stored_rate_hz, 1, dtype="float32", quality="HQ")
        self._store(self._resampler.resample_chunk(np.ascontiguousarray(mean)))

    def _weigh(self, samples: np.ndarray, mean: np.ndarray, scale: float) -> None:
        """Add up the energy of the channels [C, T], on average, and of their mean [T]."""
        offset = 128 if samples.dtype == np.uint8 else 0
        for channel in samples:
            values = channel
            if samples.dtype != np.float32:
                values = (channel.astype(np.float32) - offset) / np.float32(scale)
            self._channel_energy += float(np.dot(values, values)) / len(samples)
        self._mean_energy += float(np.dot(mean, mean))

    def _store(self, resampled: np.ndarray) -> None:
        steps = resampled * np.float32(32768)
        np.rint(steps, out=steps)
        np.clip(steps, -32768, 32767, out=steps)
        self._stored.append(steps.astype(np.int16))


def _ratio_db(part: float, whole: float) -> str:
    """How much less energy a part has, in words."""
    return f"{10 * np.log10(whole / part):.0f} dB less energy than they have" if part else "no energy at all"
