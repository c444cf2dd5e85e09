"""A figure's picture shows all of its texts, and is no larger than it has to be."""

from __future__ import annotations

import io

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from cocktail.drawing import to_png


def picture(title: str, beside: str = "") -> np.ndarray:
    """A figure of 3 by 2 inches with that title, and a text at its right edge, as gray pixels."""
    figure = Figure(figsize=(3, 2), layout="constrained")
    axis = figure.subplots()
    axis.plot([0, 1])
    figure.suptitle(title)
    figure.text(0.99, 0.5, beside)
    return np.asarray(Image.open(io.BytesIO(to_png(figure, dpi=50))).convert("L"))


def test_a_title_that_is_wider_than_the_figure_is_whole():
    assert picture("short").shape == (100, 150)
    long = picture("a title of a mixture of very many sources, each of which has a name of its own " * 2)
    assert long.shape[1] > 400
    edges = np.concatenate([long[:, :2].ravel(), long[:, -2:].ravel()])
    assert edges.min() > 200, "nothing dark reaches the edge, so nothing is cut"


def test_what_stands_at_the_edge_is_shown_too():
    assert picture("short", "a text that would be cut off").shape[1] > 200
