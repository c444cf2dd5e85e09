"""A recording as a model hears it: at the model's rate, cut into windows, a few at a time.

Shape letters: C channels, T samples, L samples of a window, B windows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from cocktail.machine import give_back_memory
from cocktail.media.bad_clips import BadClip
from cocktail.media.recording import Recording
from cocktail.recordings.windows import WindowCutter, WindowGrid

GIVE_BACK_SECONDS = 300.0
"""Length of sound after which memory that the allocator keeps is given back."""

Progress = Callable[[float], None]
"""Told the seconds of sound that one more step has done."""


def no_progress(seconds: float) -> None:
    """Tell nobody."""


class Resampler:
    """Sound [C, T] that comes in pieces, at another rate; as it is where that is the same."""

    def __init__(self, from_hz: int, to_hz: int, num_channels: int) -> None:
        self._stream = None
        if from_hz != to_hz:
            import soxr  # only here: who has sound at the model's rate needs none

            self._stream = soxr.ResampleStream(from_hz, to_hz, num_channels, dtype="float32", quality="HQ")

    def add(self, piece: np.ndarray, last: bool = False) -> np.ndarray:
        """What a further piece [C, T] gives; the last one may be empty."""
        if self._stream is None:
            return piece
        made = self._stream.resample_chunk(np.ascontiguousarray(piece.T), last=last)
        return np.ascontiguousarray(made.reshape(-1, len(piece)).T)


@dataclass(frozen=True, kw_only=True)
class Heard:
    """A step through a recording: samples as they came, and windows that they complete."""

    samples: np.ndarray
    """float32 [C, T] at the recording's own rate."""
    starts: list[int] = field(default_factory=list)
    """Places of the windows, in samples at the model's rate."""
    windows: list[np.ndarray] = field(default_factory=list)
    """float32 [C, L] each, or [1, L] of the mean of the channels."""


def hear(recording: Recording, grid: WindowGrid, sample_rate_hz: int, *, each_channel: bool = False) -> Iterator[Heard]:
    """The windows of a recording in order, one at least: of the mean of its channels, or of each channel.

    Raises BadClip for what is wrong with the recording, and for one too short to have a sample at the model's rate.
    """
    num_channels = recording.num_channels if each_channel else 1
    resampler = Resampler(recording.sample_rate_hz, sample_rate_hz, num_channels)
    cutter = WindowCutter(grid, num_channels)
    num_samples = num_windows = given_back = 0
    for samples in recording.blocks():
        num_samples += samples.shape[1]
        if num_samples - given_back >= GIVE_BACK_SECONDS * recording.sample_rate_hz:
            give_back_memory()
            given_back = num_samples
        mean = samples if each_channel else samples.mean(axis=0, keepdims=True)
        cut = list(cutter.add(resampler.add(mean)))
        num_windows += len(cut)
        yield Heard(samples=samples, starts=[start for start, _ in cut], windows=[window for _, window in cut])
    rest = [*cutter.add(resampler.add(np.zeros((num_channels, 0), np.float32), last=True)), *cutter.finish()]
    if not num_windows + len(rest):
        raise BadClip(
            "too short", f"{num_samples} samples at {recording.sample_rate_hz} Hz make none at {sample_rate_hz} Hz"
        )
    nothing = np.zeros((recording.num_channels, 0), np.float32)
    yield Heard(samples=nothing, starts=[start for start, _ in rest], windows=[window for _, window in rest])


def in_batches(steps: Iterator[Heard], batch_size: int) -> Iterator[tuple[np.ndarray, list[int], np.ndarray]]:
    """Samples [C, T], and then starts and windows [B, C, L], at most so many: B is 0 where samples end without any."""
    starts: list[int] = []
    windows: list[np.ndarray] = []
    waiting: list[np.ndarray] = []
    for step in steps:
        waiting.append(step.samples)
        starts += step.starts
        windows += step.windows
        while len(windows) >= batch_size:
            yield np.concatenate(waiting, axis=1), starts[:batch_size], np.stack(windows[:batch_size])
            waiting, starts, windows = [waiting[-1][:, :0]], starts[batch_size:], windows[batch_size:]
    if windows:
        yield np.concatenate(waiting, axis=1), starts, np.stack(windows)
    elif waiting and sum(samples.shape[1] for samples in waiting):
        yield np.concatenate(waiting, axis=1), [], np.zeros((0, 1, 1), np.float32)
