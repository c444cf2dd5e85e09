"""Figures as PNG files: the one way in which all of them are written, so that no name in one can keep it from being."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import LogFormatter
from matplotlib.transforms import Bbox
from PIL import Image

from cocktail.text.printable import on_lines

_EDGE_INCHES = 0.08
"""Margin around a text that reaches over a figure's edge."""
_NO_EDGE_INCHES = 0.02
"""What reaches over an edge by less is the line of an axis."""


def to_png(figure: Figure, dpi: int = 110, colours: int | None = None) -> bytes:
    """A figure's PNG; of few colours it is a fraction of the size. Names in it are no formulas.

    The picture is larger than the figure where a title or another text would be cut off.
    """
    FigureCanvasAgg(figure)
    take_literally(figure)
    data = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # names in scripts that the font lacks are drawn as boxes
        level = {} if colours is None else {"compress_level": 1}  # it is compressed once more
        figure.savefig(data, dpi=dpi, format="png", bbox_inches=_with_all_texts(figure), pil_kwargs=level)
    if colours is None:
        return data.getvalue()
    small = io.BytesIO()
    Image.open(data).convert("RGB").quantize(colours, Image.Quantize.FASTOCTREE).save(small, format="PNG")
    return small.getvalue()


def _with_all_texts(figure: Figure) -> Bbox | None:
    """What a figure's picture has to show, in inches: all of the figure, and what reaches over its edges; None where
    nothing does."""
    if (layout := figure.get_layout_engine()) is not None:  # it decides where texts are
        layout.execute(figure)
    figure.set_layout_engine(None)  # and is not done anew each time that it is drawn
    reaching = figure.get_tightbbox()
    outside = Bbox.union([figure.bbox_inches, reaching])
    if np.allclose(outside.extents, figure.bbox_inches.extents, atol=_NO_EDGE_INCHES):
        return None
    return outside.padded(_EDGE_INCHES)


def save_png(figure: Figure, path: Path, dpi: int) -> None:
    """Write a figure as `to_png` makes it."""
    path.write_bytes(to_png(figure, dpi))


def take_literally(figure: Figure) -> None:
    """Show every text of a figure as it stands: dollars begin no formula, and controls are escaped.

    The powers of ten at a logarithmic axis are formulas of matplotlib's own.
    """
    powers = set(_power_labels(figure))
    for text in figure.findobj(Text):
        if isinstance(text, Text) and text not in powers:
            text.set_parse_math(False)
            text.set_text(on_lines(text.get_text()))


def _power_labels(figure: Figure) -> Iterator[Text]:
    for axis in figure.findobj(Axis):
        if isinstance(axis, Axis) and isinstance(axis.get_major_formatter(), LogFormatter):
            yield from (*axis.get_majorticklabels(), *axis.get_minorticklabels())
