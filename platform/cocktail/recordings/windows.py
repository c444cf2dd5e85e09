"""Windows of a long sound, and their answers put together again.

A model hears windows of the length that it was trained on, and knows nothing of what lies around one. So windows
overlap, and where several answer, the mean counts, in which each weighs the more the nearer it is to its middle.

Shape letters: C channels, L samples of a window, A what an answer has along time (samples, or frames).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

_LEAST_WEIGHT = 1e-3
"""Weight of an answer's ends, over its middle's: where there is no other answer, it counts."""


@dataclass(frozen=True, kw_only=True)
class WindowGrid:
    """Where windows lie, in samples at the model's rate."""

    length: int
    """Samples that a window holds."""
    answered: int
    """Samples of these, from the first on, that the model answers: inverse transforms give back a little less."""
    step: int
    """Samples from one to the next."""
    multiple: int = 1
    """What each start is a multiple of: the samples between a transform's frames, so that those of all windows meet."""

    @classmethod
    def of(cls, length: int, answered: int, overlap: float, multiple: int = 1) -> WindowGrid:
        """Windows of which each shares so much of its answer, 0 to below 1, with the next."""
        step = max(int(answered * (1 - overlap)) // multiple, 1) * multiple
        return cls(length=length, answered=answered, step=step, multiple=multiple)


class WindowCutter:
    """Cuts windows out of a sound that comes in pieces.

    The last one is moved back to end where the sound does. A sound that is shorter than a window is mirrored at its
    ends until it fills one: that neither jumps nor is silent, and models were not taught silence.
    """

    def __init__(self, grid: WindowGrid, num_channels: int) -> None:
        self._grid = grid
        self._waiting = np.zeros((num_channels, 0), np.float32)
        self._offset = 0
        """Place of the first waiting sample in the sound."""
        self._next = 0
        self._last: int | None = None
        """Start of the last window that was cut."""

    @property
    def received(self) -> int:
        """Samples that came."""
        return self._offset + self._waiting.shape[1]

    def add(self, piece: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        """Start and samples float32 [C, L] of the windows that a further piece [C, any] completes."""
        self._waiting = np.concatenate([self._waiting, piece], axis=1)
        grid = self._grid
        while self._next + grid.length <= self.received:
            first = self._next - self._offset
            yield self._next, self._waiting[:, first : first + grid.length].copy()
            self._last, self._next = self._next, self._next + grid.step
            self._forget(self._last)  # the last window may begin right behind it

    def finish(self) -> Iterator[tuple[int, np.ndarray]]:
        """The windows that are left at the end of the sound, until all of it is answered."""
        grid, end = self._grid, self.received
        while self._next + grid.answered < end:  # it ends within what this window hears and does not answer
            yield self._next, self._mirrored(self._next)
            self._last, self._next = self._next, self._next + grid.step
        if end and (self._last is None or self._last + grid.answered < end):
            start = max(-(-(end - grid.answered) // grid.multiple) * grid.multiple, 0)
            yield start, self._mirrored(start)
            self._last = start

    def _mirrored(self, start: int) -> np.ndarray:
        held = self._waiting[:, start - self._offset :]
        held = held[:, : self._grid.length]
        return np.pad(held, ((0, 0), (0, self._grid.length - held.shape[1])), mode="symmetric")

    def _forget(self, before: int) -> None:
        self._waiting = self._waiting[:, before - self._offset :]
        self._offset = before


def middle_weights(length: int) -> np.ndarray:
    """Weights float32 [length] of an answer: a squared sine, highest in the middle."""
    places = (np.arange(length, dtype=np.float64) + 0.5) / length
    return np.maximum(np.sin(np.pi * places) ** 2, _LEAST_WEIGHT).astype(np.float32)


class OverlapAdd:
    """Weighted means of answers [..., A] that overlap along their last axis, in order of their starts."""

    def __init__(self) -> None:
        self._sum: np.ndarray | None = None
        self._weights = np.zeros(0, np.float32)
        self.taken = 0
        """Place up to which the means have been given out."""

    def add(self, start: int, answer: np.ndarray) -> None:
        """Add an answer that begins at a place behind all that was given out."""
        first, size = start - self.taken, answer.shape[-1]
        assert first >= 0, "its beginning has been given out"
        weights = middle_weights(size)
        self._grow(answer.shape[:-1], first + size)
        assert self._sum is not None
        self._sum[..., first : first + size] += answer * weights
        self._weights[first : first + size] += weights

    def take(self, end: int | None = None) -> np.ndarray | None:
        """The means from where the last call ended up to a place, or all that there are; None if there are none."""
        count = len(self._weights) if end is None else min(end - self.taken, len(self._weights))
        if self._sum is None or count <= 0:
            return None
        means = self._sum[..., :count] / self._weights[:count]
        self._sum, self._weights = self._sum[..., count:].copy(), self._weights[count:]
        self.taken += count
        return means

    def _grow(self, shape: tuple[int, ...], size: int) -> None:
        if self._sum is None:
            self._sum = np.zeros((*shape, 0), np.float32)
        if (missing := size - len(self._weights)) > 0:
            self._sum = np.concatenate([self._sum, np.zeros((*shape, missing), np.float32)], axis=-1)
            self._weights = np.concatenate([self._weights, np.zeros(missing, np.float32)])
