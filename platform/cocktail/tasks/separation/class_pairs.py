"""Which classes part well from which: scores by pair of classes, as a heat map."""

from __future__ import annotations

import matplotlib
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from matplotlib.figure import Figure

from cocktail.report.figures import shorten
from cocktail.report.markdown import format_decimals

MOST_CLASSES = 30
"""Limit of the classes that are drawn: of more, the ones that are in most mixtures."""
MOST_WITH_VALUES = 15
"""Limit of the classes up to which values stand in the cells."""


def pair_figure(pairs: pa.Table, title: str) -> Figure:
    """The mean SDR of mixtures of each pair of classes, of rows class_a, class_b (names), sdr (dB) and mixtures (int).

    Rows of one pair in either order are taken together, weighted by mixtures; rows without a score do not count. Pairs
    that do not occur are hatched. Higher is better. Where no pair has a score, the figure says so.
    """
    pairs = pairs.filter(pc.field("sdr").is_valid() & (pc.field("mixtures") > 0))
    if not len(pairs):
        figure = Figure(figsize=(5, 1.5))
        figure.suptitle(title)
        figure.text(0.5, 0.4, "no pair of classes has a score", ha="center")
        return figure
    names, left_out = frequent_classes(pairs)
    values = pair_matrix(pairs, names)
    side = 2.6 + 0.42 * max(len(names), 5)
    figure = Figure(figsize=(side + 1.2, side), layout="constrained")
    note = f"\nthe {len(names)} most frequent of {len(names) + left_out} classes" if left_out else ""
    axis = figure.subplots()
    axis.set_title(title + note)
    axis.patch.set(facecolor="#eeeeee", edgecolor="#bbbbbb", hatch="////")
    largest = max(float(np.nanmax(np.abs(values))) if np.isfinite(values).any() else 0.0, 1.0)
    picture = axis.imshow(values, cmap="RdBu", vmin=-largest, vmax=largest)
    labels = [shorten(name, 24) for name in names]
    axis.set_xticks(range(len(names)), labels, rotation=90)
    axis.set_yticks(range(len(names)), labels)
    axis.set(xlabel="class (hatched: no mixture of the two)", ylabel="class")
    figure.colorbar(picture, ax=axis, label="mean SDR (dB), higher is better", shrink=0.8)
    if len(names) <= MOST_WITH_VALUES:
        colours = matplotlib.colormaps["RdBu"]
        for a, b in np.argwhere(np.isfinite(values)):
            luminance = np.dot(colours(0.5 + values[a, b] / (2 * largest))[:3], (0.299, 0.587, 0.114))
            colour = "black" if luminance > 0.5 else "white"
            axis.text(
                b,
                a,
                format_decimals(float(values[a, b]), 1),
                ha="center",
                va="center",
                fontsize="small",
                color=colour,
            )
    return figure


def frequent_classes(pairs: pa.Table) -> tuple[list[str], int]:
    """The names of at most MOST_CLASSES classes, those in most mixtures, sorted; and how many classes are left out."""
    counts: dict[str, int] = {}
    for row in pairs.select(["class_a", "class_b", "mixtures"]).to_pylist():
        for name in {row["class_a"], row["class_b"]}:
            counts[name] = counts.get(name, 0) + row["mixtures"]
    chosen = sorted(counts, key=lambda name: (-counts[name], name))[:MOST_CLASSES]
    return sorted(chosen), len(counts) - len(chosen)


def pair_matrix(pairs: pa.Table, names: list[str]) -> np.ndarray:
    """Symmetric float64 [len(names), len(names)] of the pairs' mean SDR in dB; NaN where there is none."""
    place = {name: i for i, name in enumerate(names)}
    sums, weights = np.zeros((2, len(names), len(names)))
    for row in pairs.to_pylist():
        if row["class_a"] in place and row["class_b"] in place:
            a, b = place[row["class_a"]], place[row["class_b"]]
            for cell in {(a, b), (b, a)}:
                sums[cell] += row["sdr"] * row["mixtures"]
                weights[cell] += row["mixtures"]
    return np.divide(sums, weights, out=np.full_like(sums, np.nan), where=weights > 0)
