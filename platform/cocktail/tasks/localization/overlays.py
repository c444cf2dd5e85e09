"""Heat maps over the pictures of a mixture, beside the truth (AVGN Fig. 3 and 6).

Shape letters: N sources, T samples, H and W height and width of the whole picture, all of a mixture's side by side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib import patheffects
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from cocktail.report.figures import draw_spectrogram, shorten, spectrogram_db

COLOURS = "inferno"
"""Evenly perceived; high is bright, and hot."""
TRUTH_COLOUR, CHOSEN_COLOUR = "#00e5ff", "#ffffff"
"""Cyan is nowhere in the map's colours; a dark rim parts both from bright places."""
FAINTEST, STRONGEST = 0.35, 0.7
"""Opacity of a map's lowest and highest value: the picture shows through where the map is low."""
CELL_INCHES, COLUMNS_OF_ONE = 2.35, 4
"""The height of a picture, and how many stand side by side if there is one source."""
LETTERS_PER_INCH = 13
"""Letters of headings, about."""


@dataclass(frozen=True, kw_only=True)
class SystemMaps:
    """A system's map of each source."""

    maps: np.ndarray
    """[N, H, W]; not a number where the map is not of the picture."""
    chosen: np.ndarray
    """bool [N, H, W]: what the binary rule makes of them."""
    captions: Sequence[str]
    """N, of one or more lines: class and scores."""


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A mixture as it was seen and heard, and what systems make of it."""

    title: str
    picture: np.ndarray
    """uint8 [H, W, 3]."""
    num_pictures: int
    """Pictures that it is made of, side by side."""
    truths: np.ndarray
    """bool [N, H, W]."""
    class_names: Sequence[str]
    mixture: np.ndarray
    """[T], in [-1, 1]."""
    sample_rate_hz: int
    systems: Mapping[str, SystemMaps]


def overlays_figure(scene: Scene, rule: str) -> Figure:
    """The picture, its mixture's spectrogram, and then a row a system: each source's map over the picture.

    A line goes around the truth, and a dashed one around what the binary rule, which has a name, chooses. Each map has
    the colours of its own range. The systems of a single source stand side by side.
    """
    N, (height, width) = len(scene.class_names), scene.picture.shape[:2]
    columns = N if N > 1 else COLUMNS_OF_ONE
    cells = [(name, system, n) for name, system in scene.systems.items() for n in range(N)]
    begin = columns if N > 1 else 2  # maps of several sources begin in a row of their own
    num_rows = -(-(begin + len(cells)) // columns)
    cell_width = CELL_INCHES * width / height
    figure = Figure(figsize=(columns * (cell_width + 0.25) + 0.5, num_rows * (CELL_INCHES + 0.5) + 1.1))
    figure.set_layout_engine("constrained", h_pad=0.06, w_pad=0.06)
    figure.suptitle(shorten(scene.title, 120))
    axes = figure.subplots(num_rows, columns, squeeze=False)
    places = axes.flatten()
    _draw_picture(places[0], scene, cell_width)
    _draw_sound(places[1], scene, cell_width)
    for axis in (*places[2:begin], *places[begin + len(cells) :]):
        axis.axis("off")
    for axis, (name, system, n) in zip(places[begin:], cells, strict=False):
        _draw_map(axis, scene.picture, system.maps[n])
        _outline(axis, scene.truths[n], TRUTH_COLOUR, "solid")
        _outline(axis, system.chosen[n], CHOSEN_COLOUR, (0, (4, 2.5)))
        _head(axis, cell_width, name, *system.captions[n].split("\n"))
    _draw_legend(figure, axes, rule)
    return figure


def _head(axis: Any, inches: float, *lines: str) -> None:
    """A heading no wider than its cell."""
    axis.set_title("\n".join(shorten(line, int(inches * LETTERS_PER_INCH)) for line in lines), fontsize="medium")


def _draw_picture(axis: Any, scene: Scene, inches: float) -> None:
    axis.imshow(scene.picture)
    for truth in scene.truths:
        _outline(axis, truth, TRUTH_COLOUR, "solid")
    for place in range(1, scene.num_pictures):
        axis.axvline(place * scene.picture.shape[1] / scene.num_pictures - 0.5, color="white", linewidth=1.5)
    names = " | " if scene.num_pictures > 1 else " and "
    _head(axis, inches, "what is seen", names.join(scene.class_names))
    axis.set(xticks=[], yticks=[])


def _draw_sound(axis: Any, scene: Scene, inches: float) -> None:
    level = spectrogram_db(scene.mixture, scene.sample_rate_hz, 1.0)
    draw_spectrogram(axis, level - level.max(), len(scene.mixture), scene.sample_rate_hz)
    axis.set(xlabel="time (s)", ylabel="kHz (log)")
    axis.set_box_aspect(scene.picture.shape[0] / scene.picture.shape[1])
    _head(axis, inches, "what is heard", "the mixture")


def _draw_map(axis: Any, picture: np.ndarray, values: np.ndarray) -> None:
    """The picture without its own colours, and on it the map's, from its lowest value to its highest."""
    grey = picture.astype(np.float64) @ (0.299, 0.587, 0.114)
    axis.imshow(grey, cmap="gray", vmin=0, vmax=255)
    lowest, highest = np.nanmin(values), np.nanmax(values)
    scaled = (values - lowest) / max(highest - lowest, np.finfo(np.float64).tiny)
    colours = matplotlib.colormaps[COLOURS](np.nan_to_num(scaled))
    colours[..., 3] = np.where(np.isnan(values), 0, FAINTEST + (STRONGEST - FAINTEST) * np.nan_to_num(scaled))
    axis.imshow(colours)
    axis.set(xticks=[], yticks=[])


def _outline(axis: Any, region: np.ndarray, colour: str, style: Any) -> None:
    """A line around a region, along the picture's edge where it ends there."""
    if not region.any():
        return
    height, width = region.shape
    padded = np.pad(region.astype(np.float64), 1)
    inside = (np.clip(np.arange(-1.0, end + 1), -0.25, end - 0.75) for end in (width, height))
    rim = [patheffects.withStroke(linewidth=3.2, foreground="black", alpha=0.8)]
    lines = axis.contour(*inside, padded, levels=[0.5], colors=[colour], linewidths=1.8, linestyles=[style])
    lines.set_path_effects(rim)


def _draw_legend(figure: Figure, axes: np.ndarray, rule: str) -> None:
    rim = [patheffects.withStroke(linewidth=3.2, foreground="black", alpha=0.8)]
    handles = [
        Line2D([], [], color=TRUTH_COLOUR, linewidth=1.8, path_effects=rim, label="truth"),
        Line2D([], [], color=CHOSEN_COLOUR, linewidth=1.8, linestyle="dashed", path_effects=rim, label=f"map, {rule}"),
    ]
    look = {"facecolor": "0.4", "labelcolor": "white", "framealpha": 1, "handlelength": 3.2}
    figure.legend(handles=handles, loc="outside lower left", ncols=2, **look)
    bar = figure.colorbar(
        ScalarMappable(cmap=COLOURS), ax=list(axes[-1]), location="bottom", shrink=0.4, aspect=30, pad=0.02
    )
    bar.set_ticks([0, 1], labels=["lowest of the map", "highest"])
