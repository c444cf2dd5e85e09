"""What a page shows of a long sound, gathered as it comes, in memory that does not grow with its length.

Shape letters: T samples, R rows of a spectrogram, M its columns.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import soundfile
from matplotlib.figure import Figure

from cocktail.recordings.hearing import Resampler
from cocktail.recordings.stems import to_dbfs
from cocktail.report.figures import NUM_ROWS, draw_spectrogram, shorten, spectrogram_db, two_lines

MOST_COLUMNS = 2000
"""Columns of a spectrogram that are kept; with more, each stands for twice the time."""
PREVIEW_SECONDS = 60.0
"""Length of a page's players, at most: encoding MP3 costs more than all else that a page needs."""
PREVIEW_RATE_HZ = 24000
_PREVIEW_COMPRESSION = 0.9
MOST_DRAWN = 12
"""Sounds that a page shows."""
_CHUNK_SAMPLES = 1 << 17
_COLUMN_SECONDS = 0.05
_NOTHING_DB = -240.0
_ON_COLOUR, _LEVEL_COLOUR = "#0072b2", "#d55e00"


class Overview:
    """A spectrogram of the whole, and a player of the first minute, of one sound."""

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
        """An MP3 of the first minute."""
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
    axes = figure.subplots(len(shown), 1, sharex=True, squeeze=False)[:, 0]
    loudest = float(shown[0][1].levels.max())
    picture = None
    for axis, (name, overview) in zip(axes, shown, strict=True):
        levels = overview.levels - loudest
        picture = draw_spectrogram(axis, levels, overview.num_samples, overview.sample_rate_hz)
        axis.set_ylabel(f"{two_lines(name)}\n\nkHz (log)", fontsize="small")
    axes[-1].set_xlabel("time (s)")
    figure.colorbar(picture, ax=axes, extend="min", pad=0.01).set_label("level (dB re the input's loudest bin)")  # pyright: ignore[reportArgumentType]
    return figure


def presence_figure(
    names: Sequence[str], seconds: np.ndarray, presence: np.ndarray, active: np.ndarray, on: float, off: float
) -> Figure:
    """Probabilities [W, N] of classes in windows that begin at some seconds [W], and where they count, bool [W, N]."""
    figure = Figure(figsize=(11, 0.8 + 0.85 * len(names)), layout="constrained")
    axes = figure.subplots(len(names), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    for n, (axis, name) in enumerate(zip(axes, names, strict=True)):
        axis.fill_between(
            seconds, 0, 1, where=active[:, n], step="mid", color=_ON_COLOUR, alpha=0.18, linewidth=0, label="separated"
        )
        axis.plot(seconds, presence[:, n], color=_ON_COLOUR, linewidth=1.3, marker=".", markersize=3)
        axis.axhline(on, color="black", linewidth=0.7, linestyle=":")
        axis.axhline(off, color="black", linewidth=0.7, linestyle=":", alpha=0.5)
        axis.set(ylim=(0, 1), yticks=[0, 1])
        axis.set_title(shorten(name, 60), fontsize="small", loc="left", pad=2)
    axes[-1].set_xlabel("middle of the window (s)")
    return figure


def levels_figure(names: Sequence[str], step_seconds: float, levels: Sequence[Sequence[float]]) -> Figure:
    """Levels of stems over time."""
    figure = Figure(figsize=(11, 0.8 + 0.85 * len(names)), layout="constrained")
    axes = figure.subplots(len(names), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    for axis, name, level in zip(axes, names, levels, strict=True):
        edges = np.arange(len(level) + 1) * step_seconds
        axis.stairs(np.maximum(level, -80), edges, baseline=-80, fill=True, color=_LEVEL_COLOUR, alpha=0.6)
        axis.set(ylim=(-80, 0), yticks=[-80, 0])
        axis.set_title(shorten(name, 60), fontsize="small", loc="left", pad=2)
    axes[-1].set_xlabel("time (s)")
    return figure
