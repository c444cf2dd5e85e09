"""Pictures and sounds of single mixtures (SGN Fig. 2 and 5), and how a model came to them.

Shape letters: N sources, T samples, F linear bins, R rows of a model's grid, M frames in time, P patches, C classes.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from matplotlib.figure import Figure

from cocktail.text.printable import as_file_name, on_one_line

RANGE_DB = 80.0
"""Distance from the mixture's loudest bin down to black."""
WINDOW_SECONDS = 0.09
"""Window of the spectrograms, about: long enough to part the harmonics of low notes."""
LOWEST_HZ = 50.0
LONGEST_LABEL = 40
NUM_ROWS = 256
"""Log-frequency rows of the spectrograms."""
NUM_BARS = 10
"""Classes in the picture of presence."""
TRUE_COLOUR, OTHER_COLOUR = "#0072b2", "#bbbbbb"


def panel(
    mixture: np.ndarray,
    references: np.ndarray,
    estimates: Mapping[str, np.ndarray],
    class_names: Sequence[str],
    sample_rate_hz: int,
    title: str,
    chosen_classes: Mapping[str, Sequence[str]] | None = None,
) -> Figure:
    """Spectrograms of a mixture [T], its references [N, T] and each system's estimates [N, T], a row a source.

    Columns are mixture, truth and the systems, by name; `chosen_classes` names, for systems that choose classes by
    themselves, the N that they chose. Frequency is logarithmic; levels are in dB relative to the mixture's loudest bin.
    """
    chosen_classes = chosen_classes or {}
    columns = {"mixture": [mixture] * len(references), "truth": references, **estimates}
    figure = Figure(figsize=(1.6 + 2.3 * len(columns), 1.3 + 1.9 * len(references)), layout="constrained")
    figure.suptitle(title)
    axes = figure.subplots(len(references), len(columns), sharex=True, sharey=True, squeeze=False)
    loudest = max(float(_magnitude(mixture, sample_rate_hz).max()), 1e-12)
    picture = None
    for column, (system, waveforms) in enumerate(columns.items()):
        heading = "\n".join(textwrap.wrap(on_one_line(system), 26))
        for n, name in enumerate(class_names):
            axis = axes[n, column]
            level = spectrogram_db(waveforms[n], sample_rate_hz, loudest)
            picture = draw_spectrogram(axis, level, len(waveforms[n]), sample_rate_hz)
            if column == 0:
                axis.set_ylabel(f"{two_lines(name)}\n\nkHz (log)")
            chosen = [f"“{shorten(chosen_classes[system][n], 24)}”"] if system in chosen_classes else []
            axis.set_title("\n".join([heading, *chosen] if n == 0 else chosen), fontsize="medium")
    for axis in axes[-1]:
        axis.set_xlabel("time (s)")
    label = "level (dB re the mixture's loudest bin)" if len(references) > 1 else "dB re loudest\nbin of mixture"
    figure.colorbar(picture, ax=axes, extend="min", pad=0.01).set_label(label, labelpad=8)  # pyright: ignore[reportArgumentType]
    return figure


def spectrogram_db(waveform: np.ndarray, sample_rate_hz: int, reference: float) -> np.ndarray:
    """Levels [NUM_ROWS, M] in dB of a waveform [T], relative to a magnitude; rows lie between `row_edges_hz`.

    Each row shows the loudest of its bins, so that no partial falls between two rows.
    """
    magnitude = _magnitude(waveform, sample_rate_hz)
    last = len(magnitude) - 1
    first_bins = np.ceil(row_edges_hz(sample_rate_hz)[:-1] / (sample_rate_hz / 2) * last - 0.5).astype(int)
    rows = np.maximum.reduceat(magnitude, np.minimum(first_bins, last), axis=0)  # an empty row shows its nearest bin
    return 20 * np.log10(np.maximum(rows / reference, 1e-12))


def row_edges_hz(sample_rate_hz: int) -> np.ndarray:
    """Edges [NUM_ROWS + 1] of the rows of `spectrogram_db`, from LOWEST_HZ up to half the sample rate."""
    return np.geomspace(LOWEST_HZ, sample_rate_hz / 2, NUM_ROWS + 1)


def _magnitude(waveform: np.ndarray, sample_rate_hz: int) -> np.ndarray:
    """Magnitudes [F, M] by a Hann window, four of which overlap."""
    size = 2 ** round(math.log2(WINDOW_SECONDS * sample_rate_hz))
    padded = np.pad(waveform, (0, max(size - len(waveform), 0)))
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[:: size // 4]
    return np.abs(np.fft.rfft(frames * np.hanning(size).astype(waveform.dtype))).T


def draw_spectrogram(axis: Any, level: np.ndarray, num_samples: int, sample_rate_hz: int, above: float = 0.0) -> Any:
    """Draw levels of `spectrogram_db`, 0 dB the brightest; returns what a colour bar needs.

    Rows have one height, so the axis counts decades above 1 kHz, plus `above`, and is labelled in kHz.
    """
    bottom, top = above + np.log10(row_edges_hz(sample_rate_hz)[[0, -1]] / 1000)
    picture = axis.imshow(
        level,
        origin="lower",
        aspect="auto",
        cmap="magma",
        vmin=-RANGE_DB,
        vmax=0,
        extent=(0, num_samples / sample_rate_hz, bottom, top),
    )
    places, labels = zip(*frequency_ticks(sample_rate_hz), strict=True)
    axis.set_yticks(places, labels)
    return picture


def frequency_ticks(sample_rate_hz: int) -> list[tuple[float, str]]:
    """Places on the axis of `draw_spectrogram`, and their labels in kHz."""
    return [(math.log10(kHz), f"{kHz:g}") for kHz in (0.1, 0.3, 1, 3, 10) if 1000 * kHz <= sample_rate_hz / 2]


def masks_figure(
    masks: Mapping[str, np.ndarray],
    class_names: Sequence[str],
    title: str,
    assignment: Sequence[np.ndarray | None] | None = None,
    presence: Mapping[str, float] | None = None,
    true_classes: Sequence[str] = (),
    threshold: float = 0.5,
) -> Figure:
    """Masks [N, R, M] by name, a row a source, with what led to them where a model has it.

    That is, for each source, the assignment of patches to its class (a `patch_grid`; None without class), and
    the probability of each class to be in the mixture, of which the highest are drawn; from a threshold on it counts.
    """
    columns = len(masks) + (assignment is not None)
    grid_width, bars_width = 0.8 + 2.4 * columns, 4.4 if presence else 0
    height = max(1.0 + 1.9 * len(class_names), 3.4 if presence else 0)
    figure = Figure(figsize=(grid_width + bars_width, height), layout="constrained")
    figure.suptitle(title)
    parts: Any = figure.subfigures(1, 2, width_ratios=[grid_width, bars_width]) if presence else [figure]
    axes = parts[0].subplots(len(class_names), columns, sharex=True, sharey=True, squeeze=False)
    for column, (name, values) in enumerate(masks.items()):
        axes[0, column].set_title("\n".join(textwrap.wrap(on_one_line(name), 26)), fontsize="medium")
        pictures = [_draw_mask(axes[n, column], mask, mask.shape, 1.0) for n, mask in enumerate(values)]
        if column == len(masks) - 1:
            parts[0].colorbar(pictures[0], ax=axes[:, column], label="mask", pad=0.02)
    if assignment is not None:
        _draw_assignment(parts[0], axes[:, -1], assignment, next(iter(masks.values())).shape[1:])
    for n, name in enumerate(class_names):
        axes[n, 0].set_ylabel(f"{two_lines(name)}\n\nfrequency row")
    for axis in axes[-1]:
        axis.set_xlabel("frame")
    if presence:
        _draw_presence(parts[1].subplots(), presence, true_classes, threshold)
    return figure


def patch_grid(assignment: np.ndarray, num_rows: int, num_frames: int) -> np.ndarray:
    """Values [P] of square patches, row by row, as the grid [R / side, M / side] that they lie in.

    Raises ValueError if P squares of one size do not fill R rows and M frames.
    """
    side = math.isqrt(num_rows * num_frames // len(assignment))
    if side == 0 or num_rows % side or num_frames % side or num_rows * num_frames != len(assignment) * side**2:
        raise ValueError(f"{len(assignment)} square patches do not fill {num_rows} rows and {num_frames} frames")
    return assignment.reshape(num_rows // side, num_frames // side)


def _draw_mask(axis: Any, values: np.ndarray, shape: tuple[int, ...], largest: float, cmap: str = "gray") -> Any:
    extent = (0, shape[1], 0, shape[0])
    return axis.imshow(values, origin="lower", aspect="auto", cmap=cmap, vmin=0, vmax=largest, extent=extent)


def _draw_assignment(
    figure: Any, axes: np.ndarray, assignment: Sequence[np.ndarray | None], shape: tuple[int, ...]
) -> None:
    axes[0].set_title("assignment of patches", fontsize="medium")
    largest = max((float(grid.max()) for grid in assignment if grid is not None), default=1.0)
    picture = None
    for axis, grid in zip(axes, assignment, strict=True):
        if grid is None:
            axis.text(0.5, 0.5, "no class", transform=axis.transAxes, ha="center", va="center")
        else:
            picture = _draw_mask(axis, grid, shape, largest, "viridis")
    if picture is not None:
        figure.colorbar(picture, ax=axes, label="assignment to the class", pad=0.02)


def _draw_presence(axis: Any, presence: Mapping[str, float], true_classes: Sequence[str], threshold: float) -> None:
    """The most probable classes from the top, then the true ones that are not among them, with their ranks."""
    ranked = sorted(presence, key=lambda name: -presence[name])
    names = ranked[:NUM_BARS] + [name for name in ranked[NUM_BARS:] if name in true_classes]
    labels = [
        shorten(name, 26) + (f" (no. {ranked.index(name) + 1})" if i >= NUM_BARS else "")
        for i, name in enumerate(names)
    ]
    for kind, colour, hatch in (("in the mixture", TRUE_COLOUR, "//"), ("not in it", OTHER_COLOUR, "")):
        places = [i for i, name in enumerate(names) if (name in true_classes) == (colour == TRUE_COLOUR)]
        widths = [presence[names[i]] for i in places]
        axis.barh(places, widths, color=colour, hatch=hatch, edgecolor="white", linewidth=0, label=kind)
    axis.axvline(threshold, color="black", linewidth=1, linestyle=":")
    axis.set_yticks(range(len(names)), labels)
    axis.set(xlim=(0, 1), xlabel="probability of the class", ylim=(len(names) - 0.4, -0.6))
    above = sum(value > threshold for value in presence.values())
    axis.set_title(f"presence: {above} of {len(presence)} classes above {threshold:g}", fontsize="medium")
    axis.legend(loc="lower right", fontsize="small")


def shorten(name: str, length: int) -> str:
    """The name on one line, or what of it fits into so many characters, with an ellipsis."""
    return on_one_line(name, length)


def two_lines(name: str, width: int = 18) -> str:
    """The name in at most two lines of a width in characters, with an ellipsis if that is too little."""
    first, *rest = textwrap.wrap(on_one_line(name), width) or [""]
    return "\n".join([first, shorten(" ".join(rest), width)] if rest else [first])


def write_sounds(
    folder: Path,
    mixture: np.ndarray,
    references: np.ndarray,
    estimates: np.ndarray | None,
    class_names: Sequence[str],
    sample_rate_hz: int,
) -> None:
    """Write mixture [T], references and, if there are, estimates [N, T] as 16-bit wavs, named after their classes."""
    folder.mkdir(parents=True, exist_ok=True)
    soundfile.write(folder / "mixture.wav", mixture, sample_rate_hz, subtype="PCM_16")
    for n, name in enumerate(class_names):
        safe = as_file_name(name)
        soundfile.write(folder / f"reference-{n}-{safe}.wav", references[n], sample_rate_hz, subtype="PCM_16")
        if estimates is not None:
            soundfile.write(folder / f"estimate-{n}-{safe}.wav", estimates[n], sample_rate_hz, subtype="PCM_16")
