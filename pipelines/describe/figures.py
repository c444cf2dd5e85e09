"""Figures of a finished data set: counts, durations, levels, and a few clips drawn at random, as seen and as heard.

Shape letters: T samples, F frequency bins, M frames in time, H W picture.
"""

from __future__ import annotations

import io
import math
import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from PIL import Image

from cocktail.audio.class_spectra import ClassSpectra
from cocktail.text.printable import on_one_line
from pipelines.describe.counts import (
    Count,
    by_centre,
    by_size,
    column,
    count_classes,
    count_splits,
    measure_levels,
    most_first,
)
from pipelines.shards.manifest import Manifest
from pipelines.shards.reader import read_audio, read_frame, read_mask_png

SPLIT_COLOURS = ("#4477aa", "#ee7733", "#228833", "#aa3377", "#888888")
TRUTH_COLOURS = ("#00ff00", "#ff00ff", "#00ffff", "#ffff00")
"""Colours of boxes, one a label of the clip."""
MASK_COLOUR = "#ff3300"

LOWEST_DBFS, STEP_DB = -80.0, 2.0
RANGE_DB = 80.0
"""Range from the loudest bin of a spectrogram down to black."""

_CLASSES_A_COLUMN = 52
_FRAMES_A_SPECTROGRAM = 1000
_WINDOW_SAMPLES, _HOP_SAMPLES = 1024, 256
_PICTURES_A_LINE = 4
_SPECTROGRAMS_A_LINE = 3


def draw_all(manifest: Manifest, quarantine: pa.Table, num_clips: int, seed: int) -> Iterator[tuple[str, Figure]]:
    """File names and figures; none of what the data set does not have, as pictures or quarantined clips."""
    classes, splits = count_classes(manifest, quarantine), list(count_splits(manifest, quarantine))
    yield "classes.png", class_figure(classes, splits)
    if quarantine.num_rows:
        yield "quarantine.png", quarantine_figure(Counter(column(quarantine, "reason")))
    if not len(manifest.table):
        return
    split = np.array(column(manifest.table, "split"))
    seconds, rms = manifest.table["duration"].to_numpy(), measure_levels(manifest).clip_rms
    yield "durations.png", duration_figure({name: seconds[split == name] for name in splits})
    yield "loudness.png", loudness_figure({name: rms[split == name] for name in splits})
    boxes = column(manifest.table, "boxes")
    has_picture = np.array([bool(sizes) for sizes in column(manifest.table, "frame_sizes")])
    has_truth = np.array([bool(b) for b in boxes]) | manifest.table["mask_offset"].is_valid().to_numpy()
    for name, eligible in (("frames.png", has_picture), ("truth.png", has_picture & has_truth)):
        if eligible.any() and num_clips:
            yield name, contact_sheet(manifest, choose_rows(manifest, eligible, num_clips, seed))
    if num_clips:
        everything = np.ones(len(manifest.table), bool)
        yield "spectrograms.png", spectrogram_figure(manifest, choose_rows(manifest, everything, num_clips, seed))


def choose_rows(manifest: Manifest, eligible: np.ndarray, num_clips: int, seed: int) -> list[dict[str, Any]]:
    """Different rows, `num_clips` at most, of the manifest, drawn evenly among the eligible [clips], in its order."""
    numbers = np.flatnonzero(eligible)
    drawn = np.random.default_rng(seed).choice(numbers, min(num_clips, len(numbers)), replace=False)
    return manifest.table.take(np.sort(drawn)).to_pylist()


def class_figure(classes: Mapping[tuple[str, str], Count], splits: Sequence[str]) -> Figure:
    """Good clips of each class, stacked by split, the largest classes first, in columns to be read downwards."""
    labels = by_size(classes)
    num_columns = max(1, math.ceil(len(labels) / _CLASSES_A_COLUMN))
    num_lines = max(1, math.ceil(len(labels) / num_columns))
    figure = Figure(figsize=(max(7.0, 4.2 * num_columns), 1.5 + 0.18 * max(num_lines, 5)), layout="constrained")
    figure.suptitle("Good clips by class", x=0.01, ha="left")
    axes = figure.subplots(1, num_columns, sharex=True, squeeze=False)[0]
    for axis, first in zip(axes, range(0, len(labels) or 1, num_lines), strict=False):
        names = labels[first : first + num_lines]
        left = np.zeros(len(names))
        for number, split in enumerate(splits):
            width = np.array([classes[label, split].num_good if (label, split) in classes else 0 for label in names])
            axis.barh(np.arange(len(names)), width, left=left, color=_colour(number), label=split)
            left += width
        axis.set_yticks(np.arange(len(names)), [_shortened(label, 32) for label in names], fontsize=8)
        axis.set(ylim=(num_lines - 0.4, -0.6), xlabel="clips")
        axis.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    for axis in axes[math.ceil(len(labels) / num_lines) :]:
        axis.axis("off")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper right", ncols=len(splits))
    return figure


def quarantine_figure(causes: Counter[str]) -> Figure:
    """Clips set aside, by cause."""
    ordered = most_first(causes)
    figure = Figure(figsize=(7.0, 1.3 + 0.3 * len(ordered)), layout="constrained")
    axis = figure.subplots()
    bars = axis.barh([cause for cause, _ in ordered], [count for _, count in ordered], color=SPLIT_COLOURS[1])
    axis.bar_label(bars, padding=3)
    axis.margins(x=0.1)
    axis.invert_yaxis()
    axis.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    axis.set(title=f"{causes.total()} quarantined clips by cause", xlabel="clips")
    return figure


def spectra_figure(spectra: ClassSpectra, classes: Sequence[str]) -> Figure:
    """The mean spectrum of each class that was measured, a line a class, those of low sound first."""
    order = [class_id for class_id in by_centre(spectra) if spectra.num_clips[class_id]]
    power = spectra.power[order][:, 1:].astype(np.float64)  # a logarithmic axis has no 0 Hz
    strongest = power.max(axis=1, keepdims=True)  # 0 of a class of nothing but 0 Hz
    levels = 10 * np.log10(np.maximum(power / np.where(strongest > 0, strongest, 1), 10 ** (-RANGE_DB / 10)))
    figure = Figure(figsize=(8.0, 1.8 + 0.16 * max(len(order), 4)), layout="constrained")
    axis = figure.subplots()
    edges = spectra.frequencies_hz[1:]
    edges = np.append(edges, edges[-1] + edges[0]) - edges[0] / 2
    image = axis.pcolormesh(edges, np.arange(len(order) + 1), levels, cmap="magma", vmin=-RANGE_DB, vmax=0)
    axis.set_yticks(np.arange(len(order)) + 0.5, [_shortened(classes[i], 32) for i in order], fontsize=8)
    axis.set(xscale="log", xlabel="Hz", ylim=(len(order), 0), title="Mean spectrum of each class")
    figure.colorbar(image, ax=axis, label="dB, 0 is the class's strongest bin", fraction=0.03)
    return figure


def duration_figure(seconds: Mapping[str, np.ndarray]) -> Figure:
    """Durations of the good clips of each split, in seconds, on a logarithmic scale of counts."""
    everything = np.concatenate(list(seconds.values()))
    figure, axis = _single()
    edges = np.histogram_bin_edges(everything, bins=60).tolist()
    for number, (split, values) in enumerate(seconds.items()):
        label = f"{split} ({len(values)})"
        axis.hist(values, edges, histtype="stepfilled", color=_colour(number), alpha=0.25)
        axis.hist(values, edges, histtype="step", color=_colour(number), label=label, linewidth=1.5)
    axis.set_yscale("log")
    axis.set_ylim(bottom=0.5)
    axis.yaxis.set_major_formatter("{x:g}")
    axis.set(title=f"Duration of clips, median {np.median(everything):.2f} s", xlabel="s", ylabel="clips")
    axis.legend()
    return figure


def loudness_figure(rms: Mapping[str, np.ndarray]) -> Figure:
    """Levels of the good clips of each split, stacked; full scale is an rms of 1."""
    figure, axis = _single()
    edges = np.arange(LOWEST_DBFS, STEP_DB, STEP_DB).tolist()
    level_db = {split: 20 * np.log10(np.maximum(values, 1e-9)) for split, values in rms.items()}
    colours = [_colour(number) for number in range(len(rms))]
    labels = [f"{split} ({len(values)})" for split, values in rms.items()]
    axis.hist(list(level_db.values()), edges, stacked=True, color=colours, label=labels)
    everything = np.concatenate(list(level_db.values()))
    num_below = int((everything < LOWEST_DBFS).sum())
    below = f"; {num_below} below {LOWEST_DBFS:g} are not drawn" if num_below else ""
    median = f"median {np.median(everything):.1f} dBFS"
    axis.yaxis.set_major_locator(MaxNLocator("auto", integer=True))
    axis.set(title=f"Level (rms) of clips, {median}{below}", xlabel="dBFS", ylabel="clips")
    axis.legend()
    return figure


def contact_sheet(manifest: Manifest, rows: Sequence[Mapping[str, Any]]) -> Figure:
    """One picture of each clip: the first with truth, else the middle one; boxes and the mask's outline on it."""
    figure, axes = _grid(len(rows), _PICTURES_A_LINE, size=(3.3, 3.1))
    if any(row["boxes"] or row["mask_offset"] is not None for row in rows):
        figure.suptitle("Truth: boxes around, and red lines along, what sounds", fontsize=10)
    for axis, row in zip(axes, rows, strict=True):
        number = _picture_with_truth(row)
        with Image.open(io.BytesIO(read_frame(manifest, row, number)), formats=["JPEG"]) as picture:
            pixels = np.asarray(picture.convert("RGB"))
        axis.imshow(pixels)
        mask = read_mask_png(manifest, row) if number == 0 else None
        if mask is not None:
            _draw_outline(axis, mask, pixels.shape[:2])
        boxes = [box for box in row["boxes"] or () if box["picture"] == number]
        _draw_boxes(axis, boxes, manifest.classes, pixels.shape[:2])
        axis.set(xlim=(-0.5, pixels.shape[1] - 0.5), ylim=(pixels.shape[0] - 0.5, -0.5), xticks=[], yticks=[])
        seconds = row["frame_seconds"][number]
        axis.set_title(_title(row, f"{row['split']}, at {seconds:.1f} s", 30), fontsize=8)
    return figure


def _picture_with_truth(row: Mapping[str, Any]) -> int:
    """Masks are of picture 0."""
    if row["mask_offset"] is not None:
        return 0
    if row["boxes"]:
        return min(box["picture"] for box in row["boxes"])
    return len(row["frame_sizes"]) // 2


def _draw_boxes(
    axis: Axes, boxes: Sequence[Mapping[str, Any]], classes: tuple[str, ...], size: tuple[int, int]
) -> None:
    """Boxes, whose corners are shares of the picture [H, W]; named if there are several classes."""
    height, width = size
    class_ids = sorted({box["class_id"] for box in boxes if box["class_id"] is not None})
    for box in boxes:
        place = class_ids.index(box["class_id"]) if box["class_id"] is not None else 0
        colour = TRUTH_COLOURS[place % len(TRUTH_COLOURS)]
        left, top = box["x0"] * width - 0.5, box["y0"] * height - 0.5  # a pixel's centre has its number
        extent = (box["x1"] - box["x0"]) * width, (box["y1"] - box["y0"]) * height
        axis.add_patch(Rectangle((left, top), *extent, fill=False, edgecolor=colour, linewidth=2))
        if len(class_ids) > 1 and box["class_id"] is not None:
            name = _shortened(classes[box["class_id"]], 24)
            axis.text(left, top, name, fontsize=7, color="black", backgroundcolor=colour)


def _draw_outline(axis: Axes, png: bytes, size: tuple[int, int]) -> None:
    """The outline of a mask over a picture of [H, W], closed also where it touches the picture's border."""
    height, width = size
    with Image.open(io.BytesIO(png), formats=["PNG"]) as image:
        mask = np.pad(np.asarray(image.convert("L")) > 0, 1)
    down, across = (np.arange(length) - 0.5 for length in mask.shape)  # centres, the first one in the padding
    rows, columns = mask.shape[0] - 2, mask.shape[1] - 2
    axis.contour(
        across * width / columns - 0.5,
        down * height / rows - 0.5,
        mask,
        levels=[0.5],
        colors=MASK_COLOUR,
        linewidths=1.2,
    )


def spectrogram_figure(manifest: Manifest, rows: Sequence[Mapping[str, Any]]) -> Figure:
    """The spectrogram of each clip, all on one scale; 0 dB is a sine of full scale."""
    levels = [spectrogram_db(read_audio(manifest, row)) for row in rows]
    loudest_db = 10 * math.ceil(max(level.max() for level in levels) / 10)
    figure, axes = _grid(len(rows), _SPECTROGRAMS_A_LINE, size=(4.6, 2.6))
    for axis, row, level in zip(axes, rows, levels, strict=True):
        image = axis.imshow(
            level,
            origin="lower",
            aspect="auto",
            cmap="magma",
            vmin=loudest_db - RANGE_DB,
            vmax=loudest_db,
            extent=(0, row["duration"], 0, manifest.sample_rate_hz / 2),
        )
        axis.set(xlabel="s", ylabel="Hz")
        axis.set_title(_title(row, row["split"], 48), fontsize=8)
        if row is rows[-1]:
            figure.colorbar(image, ax=figure.axes, label="dB, 0 is a sine of full scale", fraction=0.02, aspect=40)
    return figure


def spectrogram_db(audio: np.ndarray) -> np.ndarray:
    """Levels [F, M] of int16 [T] in dB; a sine of full scale has 0. Long clips skip samples between frames."""
    padded = np.pad(audio / 32768, (0, max(0, _WINDOW_SAMPLES - len(audio))))
    hop = max(_HOP_SAMPLES, math.ceil(len(padded) / _FRAMES_A_SPECTROGRAM))
    window = np.hanning(_WINDOW_SAMPLES)
    frames = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW_SAMPLES)[::hop]
    magnitude = np.abs(np.fft.rfft(frames * window)).T * 2 / window.sum()
    return 20 * np.log10(np.maximum(magnitude, 1e-10))


def _single() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(7.0, 4.0), layout="constrained")
    return figure, figure.subplots()


def _grid(count: int, most_a_line: int, size: tuple[float, float]) -> tuple[Figure, list[Axes]]:
    """Axes, as many as wanted, in lines, each of (width, height) inches."""
    num_columns = min(count, most_a_line)
    num_lines = math.ceil(count / num_columns)
    figure = Figure(figsize=(size[0] * num_columns + 0.8, size[1] * num_lines), layout="constrained")
    axes = figure.subplots(num_lines, num_columns, squeeze=False).ravel().tolist()
    for axis in axes[count:]:
        axis.remove()
    return figure, axes[:count]


def _title(row: Mapping[str, Any], detail: str, most: int) -> str:
    label = textwrap.shorten(on_one_line(" + ".join(row["labels"])) or "no label", 80, placeholder=" …")
    return f"{textwrap.fill(label, 40)}\n{_shortened(row['clip_id'], most)}, {detail}"


def _shortened(text: str, most: int) -> str:
    """A text of at most so many characters, its middle left out."""
    text = on_one_line(text)
    return text if len(text) <= most else f"{text[: most // 2]}…{text[len(text) - (most - 1) // 2 :]}"


def _colour(number: int) -> str:
    return SPLIT_COLOURS[min(number, len(SPLIT_COLOURS) - 1)]
