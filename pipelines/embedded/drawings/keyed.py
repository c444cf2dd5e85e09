"""Accordions, and marimbas and xylophones."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from pipelines.embedded.drawings.sketch import Outline, Point, Sketch, box, curve, oval

Side = tuple[Point, Point]
"""Upper and lower end of an upright line."""


def _between(a: Point, b: Point, share: float) -> Point:
    return a[0] + share * (b[0] - a[0]), a[1] + share * (b[1] - a[1])


def _bellows(sketch: Sketch, left: Side, right: Side, folds: int, *, bulge: float = 12, lift: float = 0) -> None:
    """Folds between two upright lines; `lift` raises those in the middle."""

    def line(share: float, out: float) -> Side:
        rise = lift * 4 * share * (1 - share)
        (top_x, top_y), (low_x, low_y) = _between(left[0], right[0], share), _between(left[1], right[1], share)
        return (top_x, top_y - rise - out), (low_x, low_y - rise + out)

    edges = [line(at / (2 * folds), bulge if at % 2 else 0) for at in range(2 * folds + 1)]
    for at, ((a, b), (c, d)) in enumerate(itertools.pairwise(edges)):
        sketch.solid("shade" if at % 2 else "body", [a, c, d, b])


def _grid(corners: Sequence[Point], columns: int, rows: int) -> list[Point]:
    """Points on a grid over a quadrilateral given clockwise from its upper left corner, margins left free."""
    a, b, c, d = corners
    places = []
    for row in (np.arange(rows) + 0.5) / rows:
        for column in (np.arange(columns) + 0.5) / columns:
            places.append(_between(_between(a, b, column), _between(d, c, column), row))
    return places


def _piano_keys(sketch: Sketch, corners: Outline, count: int) -> None:
    """White keys over a quadrilateral, from its top to its bottom, and black ones on its inner side."""
    a, b, c, d = corners
    sketch.solid("light", corners)
    for share in np.arange(1, count) / count:
        sketch.stroke("dark", 3, _between(a, d, share), _between(b, c, share))
        if round(share * count) % 7 not in (0, 3):
            left, right = _between(a, d, share), _between(b, c, share)
            sketch.stroke("dark", 11, _between(left, right, 0.45), right)


def _buttons(sketch: Sketch, corners: Outline, columns: int, rows: int) -> None:
    for x, y in _grid(corners, columns, rows):
        sketch.solid("light", oval(x, y, 7, 7))


def _accordion(
    sketch: Sketch, left: Outline, right: Outline, *, folds: int, lift: float = 0, bulge: float = 12, piano: bool = True
) -> None:
    """Two cases given clockwise from their upper left corners, and bellows between."""
    _bellows(sketch, (left[1], left[2]), (right[0], right[3]), folds, bulge=bulge, lift=lift)
    sketch.solid("body", left)
    sketch.solid("body", right)
    a, b, c, d = left
    keyboard = [_between(a, b, 0.1), _between(a, b, 0.6), _between(d, c, 0.6), _between(d, c, 0.1)]
    inner = [_between(upper, lower, 0.05) for upper, lower in zip(keyboard, reversed(keyboard), strict=True)]
    if piano:
        _piano_keys(sketch, inner, 12)
    else:
        _buttons(sketch, keyboard, 2, 8)
    a, b, c, d = right
    _buttons(sketch, [_between(a, b, 0.25), b, c, _between(d, c, 0.25)], 3, 8)
    (x, y), (far_x, far_y) = _between(left[0], left[3], 0.6), _between(right[1], right[2], 0.55)
    sketch.hand(x + 20, y, 170)
    sketch.hand(far_x - 20, far_y, 10)


def piano_accordion(sketch: Sketch) -> None:
    _accordion(sketch, box(16, 80, 120, 330), box(286, 80, 384, 330), folds=6)


def fanned_accordion(sketch: Sketch) -> None:
    left = [(10, 190), (86, 134), (160, 316), (84, 366)]
    right = [(314, 134), (390, 190), (316, 366), (240, 316)]
    _accordion(sketch, left, right, folds=8, lift=46)


def button_accordion(sketch: Sketch) -> None:
    left = [(56, 66), (150, 122), (150, 290), (56, 346)]
    right = [(238, 122), (332, 66), (332, 346), (238, 290)]
    _accordion(sketch, left, right, folds=4, piano=False)


def drawn_out_accordion(sketch: Sketch) -> None:
    left = [(8, 120), (78, 96), (108, 300), (38, 330)]
    right = [(310, 84), (390, 100), (374, 322), (296, 310)]
    _accordion(sketch, left, right, folds=11, lift=-34, bulge=9)


def accordion_from_its_keys(sketch: Sketch) -> None:
    left = [(20, 40), (176, 70), (176, 340), (20, 372)]
    right = [(290, 104), (362, 112), (362, 300), (290, 308)]
    _accordion(sketch, left, right, folds=5)


def _bars(sketch: Sketch, left: Side, right: Side, count: int, *, gap: float = 0.2) -> list[Outline]:
    """Upright bars between two lines, with a nail near both ends of each; returns their outlines."""
    bars = []
    for bar in range(count):
        begin, end = bar / count, (bar + 1 - gap) / count
        upper = [_between(left[0], right[0], share) for share in (begin, end)]
        lower = [_between(left[1], right[1], share) for share in (end, begin)]
        bars.append([*upper, *lower])
        sketch.solid("body", bars[-1])
        for share in (0.16, 0.84):
            x, y = _between(_between(upper[0], lower[1], share), _between(upper[1], lower[0], share), 0.5)
            sketch.solid("light", oval(x, y, 5, 5))
    return bars


def _mallet(sketch: Sketch, head: Point, grip: Point) -> None:
    sketch.stroke("dark", 6, head, grip)
    sketch.solid("light", oval(*head, 14, 14))
    sketch.hand(*grip, 90)


def _tubes(sketch: Sketch, bars: Sequence[Outline], bottoms: Sequence[float]) -> None:
    """Resonators below bars, down to heights."""
    for bar, bottom in zip(bars, bottoms, strict=True):
        (right, top), (left, _) = bar[2], bar[3]
        inset = 0.15 * (right - left)
        sketch.solid("shade", box(left + inset, top, right - inset, bottom))


def xylophone_from_above(sketch: Sketch) -> None:
    sketch.solid("shade", [(8, 110), (392, 160), (392, 178), (8, 136)], [(8, 296), (392, 246), (392, 228), (8, 270)])
    _bars(sketch, ((14, 76), (14, 330)), ((394, 146), (394, 260)), 9)
    _mallet(sketch, (120, 210), (90, 372))
    _mallet(sketch, (230, 200), (262, 368))


def marimba_from_the_front(sketch: Sketch) -> None:
    bars = [box(24 + 36 * at, 110, 53 + 36 * at, 178) for at in range(10)]
    for leg in (24, 362):
        sketch.solid("dark", box(leg, 160, leg + 14, 392))
    sketch.solid("dark", box(24, 330, 376, 342))
    _tubes(sketch, bars, [320 - 11 * at for at in range(10)])
    _bars(sketch, ((24, 110), (24, 178)), ((384, 110), (384, 178)), 10)
    _mallet(sketch, (150, 136), (120, 28))
    _mallet(sketch, (250, 140), (288, 30))


def marimba_of_two_rows(sketch: Sketch) -> None:
    sketch = sketch.seen(taper=0.2)
    sketch.solid("dark", [(44, 92), (356, 92), (384, 330), (16, 330)])
    _bars(sketch, ((52, 100), (44, 190)), ((356, 116), (364, 190)), 11, gap=0.4)
    _bars(sketch, ((36, 202), (22, 336)), ((366, 202), (380, 306)), 12)
    _mallet(sketch, (140, 250), (120, 380))
    _mallet(sketch, (250, 250), (286, 380))


def toy_xylophone(sketch: Sketch) -> None:
    sketch = sketch.seen(turn=24)
    sketch.solid("dark", [(20, 180), (380, 150), (380, 250), (20, 220)])
    _bars(sketch, ((26, 150), (26, 250)), ((384, 84), (384, 316)), 7, gap=0.3)
    _mallet(sketch, (300, 200), (190, 340))
    _mallet(sketch, (200, 190), (330, 330))


def marimba_with_an_arch(sketch: Sketch) -> None:
    sketch = sketch.seen(taper=0.12)
    bars = [box(20 + 28 * at, 150, 44 + 28 * at, 190) for at in range(13)]
    _tubes(sketch, bars, [340 - 2.6 * (at - 6) ** 2 for at in range(13)])
    for leg in (30, 352):
        sketch.solid("dark", box(leg, 186, leg + 18, 360))
        sketch.solid("dark", oval(leg + 9, 372, 18, 18))
    _bars(sketch, ((20, 118), (14, 196)), ((380, 132), (386, 190)), 13)
    sketch.solid("dark", curve([(10, 190), (390, 186), (392, 202), (8, 206)]))
    _mallet(sketch, (150, 150), (86, 66))
    _mallet(sketch, (260, 150), (320, 66))
