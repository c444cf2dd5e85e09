"""Pictures and sounds of single mixtures.

Shape letters: N sources, T samples, R log-frequency rows, M frames.
"""

from __future__ import annotations

import re
from pathlib import Path

import matplotlib
import numpy as np
import soundfile
from matplotlib.figure import Figure

matplotlib.use("Agg")

LOUDEST_DB, RANGE_DB = 0.0, 80.0


def separation_figure(
    mixture: np.ndarray,
    references: np.ndarray,
    estimates: np.ndarray,
    masks: np.ndarray,
    ideal_masks: np.ndarray,
    class_names: list[str],
    sample_rate_hz: int,
    title: str,
) -> Figure:
    """Spectrograms of the mixture [T], references and estimates [N, T], with the masks [N, R, M] used and ideal.

    One row a source below the mixture's. Levels are in dB relative to the mixture's loudest bin; the masks'
    frequency axis is logarithmic.
    """
    num_sources = len(references)
    figure = Figure(figsize=(15, 2.6 * (num_sources + 1)), layout="constrained")
    figure.suptitle(title)
    axes = figure.subplots(num_sources + 1, 4, squeeze=False)
    loudest = np.abs(_transform(mixture)).max()
    for axis in axes[0, 1:]:
        axis.axis("off")
    _draw_spectrogram(axes[0, 0], mixture, loudest, sample_rate_hz, "mixture")
    for n, name in enumerate(class_names):
        _draw_spectrogram(axes[n + 1, 0], references[n], loudest, sample_rate_hz, f"reference: {name}")
        picture = _draw_spectrogram(axes[n + 1, 1], estimates[n], loudest, sample_rate_hz, f"estimate: {name}")
        _draw_mask(axes[n + 1, 2], masks[n], "predicted mask")
        _draw_mask(axes[n + 1, 3], ideal_masks[n], "ideal binary mask")
        figure.colorbar(picture, ax=axes[n + 1, 1], label="dB")
    return figure


def _transform(waveform: np.ndarray) -> np.ndarray:
    size, hop = 1024, 256
    frames = np.lib.stride_tricks.sliding_window_view(waveform, size)[::hop]
    return np.fft.rfft(frames * np.hanning(size)).T


def _draw_spectrogram(axis, waveform: np.ndarray, loudest: float, sample_rate_hz: int, title: str):
    level = 20 * np.log10(np.maximum(np.abs(_transform(waveform)) / max(loudest, 1e-12), 1e-12))
    picture = axis.imshow(
        level,
        origin="lower",
        aspect="auto",
        cmap="magma",
        vmin=LOUDEST_DB - RANGE_DB,
        vmax=LOUDEST_DB,
        extent=(0, len(waveform) / sample_rate_hz, 0, sample_rate_hz / 2000),
    )
    axis.set(title=title, xlabel="s", ylabel="kHz")
    return picture


def _draw_mask(axis, mask: np.ndarray, title: str) -> None:
    axis.imshow(mask, origin="lower", aspect="auto", cmap="gray", vmin=0, vmax=1)
    axis.set(title=title, xlabel="frame", ylabel="log-frequency row")


def write_sounds(
    folder: Path,
    mixture: np.ndarray,
    references: np.ndarray,
    estimates: np.ndarray,
    class_names: list[str],
    sample_rate_hz: int,
) -> None:
    """Write mixture, references and estimates as 16-bit wavs, named after their classes."""
    folder.mkdir(parents=True, exist_ok=True)
    soundfile.write(folder / "mixture.wav", mixture, sample_rate_hz, subtype="PCM_16")
    for n, name in enumerate(class_names):
        safe = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
        soundfile.write(folder / f"reference-{n}-{safe}.wav", references[n], sample_rate_hz, subtype="PCM_16")
        soundfile.write(folder / f"estimate-{n}-{safe}.wav", estimates[n], sample_rate_hz, subtype="PCM_16")
