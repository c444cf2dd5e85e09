"""What a page shows of a long sound, gathered as it comes, in memory that does not grow with its length.

Shape letters: T samples, R rows of a spectrogram, M its columns.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import soundfile
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cocktail.recordings.hearing import Resampler
from cocktail.recordings.stems import to_dbfs
from cocktail.report.figures import (
    NUM_ROWS,
    draw_spectrogram,
    frequency_ticks,
    row_edges_hz,
    spectrogram_db,
    two_lines,
)

MOST_COLUMNS = 2000
"""Columns of a spectrogram that are kept; with more, each stands for twice the time."""
PREVIEW_SECONDS = 30.0
"""Length of a page's players, at most: encoding MP3 costs more than all else that a page needs."""
PREVIEW_RATE_HZ = 24000
_PREVIEW_COMPRESSION = 0.9
MOST_DRAWN = 12
"""Sounds that a page shows."""
_CHUNK_SAMPLES = 1 << 17
_COLUMN_SECONDS = 0.05
_NOTHING_DB = -240.0
_ROW = 1.35
"""From the top of a row of a figure to that of the next, in heights of one."""
_LOWEST_DBFS = -80.0
_ON_COLOUR, _LEVEL_COLOUR = "#0072b2", "#d55e00"


class Overview:
    """A spectrogram of the whole, and a player of its beginning, of one sound."""

    def __init__(self, sample_rate_hz: int) -> None:
        self.sample_rate_hz = sample_rate_hz
        self.num_samples = 0
        self._waiting: list[np.ndarray] = []
        self._num_waiting = 0
        self._columns = np.zeros((NUM_ROWS, 0), np.float32)
        self._column_samples = max(int(_COLUMN_SECONDS * sample_rate_hz), 1)
        self._num_folded = 0
        """Samples that are in the columns, of which the last may still be filling."""
        self._resampler = Resampler(sample_rate_hz, PREVIEW_RATE_HZ, 1)
        self._preview = io.BytesIO()
        self._player = soundfile.SoundFile(
            self._preview, "w", PREVIEW_RATE_HZ, 1, format="MP3", compression_level=_PREVIEW_COMPRESSION
        )

    def add(self, samples: np.ndarray) -> None:
        """Take further samples [T], the mean of the channels."""
        left = int(PREVIEW_SECONDS * self.sample_rate_hz) - self.num_samples
        if left > 0:
            self._player.write(self._resampler.add(samples[None, :left])[0])
        self.num_samples += len(samples)
        self._waiting.append(samples)
        self._num_waiting += len(samples)
        if self._num_waiting >= _CHUNK_SAMPLES:
            self._fold()

    def finish(self) -> None:
        """Take no more."""
        if self._num_waiting:
            self._fold()
        self._player.write(self._resampler.add(np.zeros((1, 0), np.float32), last=True)[0])
        self._player.close()

    @property
    def preview(self) -> bytes:
        """An MP3 of the first PREVIEW_SECONDS."""
        return self._preview.getvalue()

    @property
    def levels(self) -> np.ndarray:
        """Levels [R, M] in dB of the whole, as `draw_spectrogram` takes them, relative to 1."""
        return self._columns if self._columns.size else np.full((NUM_ROWS, 1), _NOTHING_DB)

    def _fold(self) -> None:
        chunk = np.concatenate(self._waiting)
        self._waiting, self._num_waiting = [], 0
        first, self._num_folded = self._num_folded, self._num_folded + len(chunk)
        while self._num_folded > MOST_COLUMNS * self._column_samples:
            odd = self._columns.shape[1] % 2
            whole = np.pad(self._columns, ((0, 0), (0, odd)), constant_values=_NOTHING_DB)
            self._columns = np.maximum(whole[:, ::2], whole[:, 1::2])
            self._column_samples *= 2
        count = -(-self._num_folded // self._column_samples)
        missing = count - self._columns.shape[1]
        self._columns = np.pad(self._columns, ((0, 0), (0, missing)), constant_values=_NOTHING_DB)
        level = spectrogram_db(chunk, self.sample_rate_hz, 1.0).astype(np.float32)
        # A column takes the frames that lie in it by where their equal shares of the chunk begin, one at least.
        opened = first // self._column_samples
        starts = np.maximum(np.arange(opened, count) * self._column_samples - first, 0)
        edges = np.minimum(starts * level.shape[1] // len(chunk), level.shape[1] - 1)
        loudest = np.maximum.reduceat(level, edges, axis=1)
        self._columns[:, opened:] = np.maximum(self._columns[:, opened:], loudest)


class LevelTrack:
    """How loud a sound is over time: a level for each step of so many samples."""

    def __init__(self, step: int) -> None:
        self._step = step
        self._energies: list[float] = [0.0]
        self._counts: list[int] = [0]

    def add(self, samples: np.ndarray) -> None:
        """Take further samples [C, T]."""
        energies = np.square(samples, dtype=np.float64).mean(axis=0)
        while len(energies):
            room = self._step - self._counts[-1]
            if not room:
                self._energies.append(0.0)
                self._counts.append(0)
                continue
            part, energies = energies[:room], energies[room:]
            self._energies[-1] += float(part.sum())
            self._counts[-1] += len(part)

    @property
    def levels_dbfs(self) -> list[float]:
        return [
            to_dbfs((energy / max(count, 1)) ** 0.5) for energy, count in zip(self._energies, self._counts, strict=True)
        ]


def spectrograms_figure(overviews: Sequence[tuple[str, Overview]]) -> Figure:
    """Spectrograms of sounds of one recording, one below the other; the first one's loudest bin is 0 dB."""
    shown = overviews[: MOST_DRAWN + 2]
    figure = Figure(figsize=(11, 0.6 + 1.55 * len(shown)), layout="constrained")
    axis = figure.subplots()
    loudest = float(shown[0][1].levels.max())
    rate = shown[0][1].sample_rate_hz
    lowest, highest = np.log10(row_edges_hz(rate)[[0, -1]] / 1000)
    step = _ROW * (highest - lowest)
    ticks: list[tuple[float, str]] = []
    picture = None
    for n, (name, overview) in enumerate(shown):
        picture = draw_spectrogram(axis, overview.levels - loudest, overview.num_samples, rate, -n * step)
        axis.text(0.005, highest - n * step, two_lines(name), transform=axis.get_yaxis_transform(), va="bottom")
        ticks += [(place - n * step, label) for place, label in frequency_ticks(rate)]
    axis.set_ylim(lowest - (len(shown) - 1) * step, highest + step - (highest - lowest))
    axis.set(ylabel="kHz (log)", xlabel="time (s)")
    axis.set_yticks([place for place, _ in ticks], [label for _, label in ticks], fontsize="small")
    figure.colorbar(picture, ax=axis, extend="min", pad=0.01).set_label("level (dB re the input's loudest bin)")  # pyright: ignore[reportArgumentType]
    return figure


def presence_figure(
    names: Sequence[str], seconds: np.ndarray, presence: np.ndarray, active: np.ndarray, on: float, off: float
) -> Figure:
    """Probabilities [W, N] of classes in windows that begin at some seconds [W], and where they count, bool [W, N]."""
    figure, axis, bottoms = _rows(names)
    for n, bottom in enumerate(bottoms):
        axis.fill_between(
            seconds, bottom, bottom + 1, where=active[:, n], step="mid", color=_ON_COLOUR, alpha=0.18, linewidth=0
        )
        axis.plot(seconds, bottom + presence[:, n], color=_ON_COLOUR, linewidth=1.3, marker=".", markersize=3)
    for value, alpha in ((on, 1.0), (off, 0.5)):
        wide = axis.get_yaxis_transform()
        axis.hlines(bottoms + value, 0, 1, transform=wide, color="black", linewidth=0.7, linestyle=":", alpha=alpha)
    axis.set_xlabel("middle of the window (s)")
    return figure


def levels_figure(names: Sequence[str], step_seconds: float, levels: Sequence[Sequence[float]]) -> Figure:
    """Levels of stems over time, each from -80 dBFS to 0."""
    figure, axis, bottoms = _rows(names)
    for bottom, level in zip(bottoms, levels, strict=True):
        edges = np.arange(len(level) + 1) * step_seconds
        heights = bottom + 1 + np.maximum(level, _LOWEST_DBFS) / -_LOWEST_DBFS
        axis.stairs(heights, edges, baseline=bottom, fill=True, color=_LEVEL_COLOUR, alpha=0.6)
    axis.set_xlabel("time (s)")
    return figure


def _rows(names: Sequence[str]) -> tuple[Figure, Axes, np.ndarray]:
    """A figure with a row a name, one below the other, each of height 1, and where they begin. One pair of axes for
    all: what each costs is most of what a page costs."""
    figure = Figure(figsize=(11, 0.8 + 0.7 * len(names)), layout="constrained")
    axis = figure.subplots()
    bottoms = -_ROW * np.arange(len(names))
    axis.set_yticks(bottoms + 0.5, [two_lines(name) for name in names], fontsize="small")
    axis.set_ylim(bottoms[-1] - 0.1, 1.1)
    axis.margins(x=0.01)
    for edge in (0, 1):
        axis.hlines(bottoms + edge, 0, 1, transform=axis.get_yaxis_transform(), color="0.8", linewidth=0.6, zorder=0)
    return figure, axis, bottoms
