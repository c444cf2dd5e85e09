"""A recording, whatever it is read from; and one of samples that are in memory already, which needs no decoder.

Shape letters: C channels, T samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

from cocktail.media.bad_clips import BadClip

if TYPE_CHECKING:
    from PIL import Image

BLOCK_SAMPLES = 1 << 16
"""Samples of a block, about."""


class Recording(Protocol):
    """A sound of any length, with pictures or without."""

    @property
    def name(self) -> str: ...

    @property
    def sample_rate_hz(self) -> int: ...

    @property
    def num_channels(self) -> int: ...

    @property
    def declared_seconds(self) -> float | None:
        """Its length as it says itself; None if it does not."""
        ...

    @property
    def has_pictures(self) -> bool: ...

    def blocks(self) -> Iterator[np.ndarray]:
        """Its samples in order, float32 [C, T] with full scale 1; each call begins anew. Raises BadClip."""
        ...

    def pictures_at(self, seconds: Sequence[float]) -> Iterator[Image.Image]:
        """The upright pictures that are shown at rising times, counted from the first sample. Raises BadClip."""
        ...


class ArrayRecording:
    """Samples [C, T] or [T] that are in memory, float in [-1, 1] or int16."""

    has_pictures = False

    def __init__(self, samples: np.ndarray, sample_rate_hz: int, name: str = "recording") -> None:
        samples = np.atleast_2d(samples)
        if samples.dtype == np.int16:
            samples = samples / np.float32(32768)
        self.samples = samples.astype(np.float32, copy=False)
        self.sample_rate_hz, self.name = sample_rate_hz, name
        self.num_channels = len(self.samples)
        self.declared_seconds: float | None = self.samples.shape[1] / sample_rate_hz

    def blocks(self) -> Iterator[np.ndarray]:
        for start in range(0, self.samples.shape[1], BLOCK_SAMPLES):
            block = self.samples[:, start : start + BLOCK_SAMPLES]
            require_finite(block, start, self.sample_rate_hz)
            yield block

    def pictures_at(self, seconds: Sequence[float]) -> Iterator[Image.Image]:
        raise BadClip("no video track", f"{self.name} is a sound alone")


def require_finite(block: np.ndarray, start: int, sample_rate_hz: int) -> None:
    if not np.isfinite(block).all():
        bad = np.flatnonzero(~np.isfinite(block).all(axis=0))
        raise BadClip("not finite", f"{len(bad)} samples, the first at {(start + bad[0]) / sample_rate_hz:.3f} s")
