"""Cellos and violins."""

from __future__ import annotations

import math

import numpy as np

from pipelines.embedded.drawings.sketch import Outline, Sketch, box, curve, mirrored, oval, tube

_BOUTS = (
    [(0.10, 0.00), (0.52, 0.02), (0.76, 0.15), (0.68, 0.32)],
    [(0.68, 0.32), (0.50, 0.42), (0.50, 0.54), (0.76, 0.63)],
    [(0.76, 0.63), (1.00, 0.80), (0.80, 0.96), (0.10, 1.00)],
)
"""Right side of a body from neck to foot, of width and height 1: upper bout, waist and lower bout, corners between."""


def _body(top: float, bottom: float, half: float) -> Outline:
    """The outline of a body by its upper and lower end and half its width."""
    side = [point for bout in _BOUTS for point in curve(bout, closed=False)]
    return mirrored([(half * across, top + (bottom - top) * down) for across, down in side])


def _front(sketch: Sketch, top: float, bottom: float, half: float, scroll: float) -> None:
    """Body, fingerboard up to the scroll, strings, bridge, tailpiece and f-holes."""
    length = bottom - top
    bridge = top + 0.6 * length
    sketch.solid("body", _body(top, bottom, half))
    sketch.solid("shade", mirrored([(0.09 * half, scroll), (0.17 * half, bridge - 0.14 * length)]))
    sketch.solid("dark", mirrored([(0.22 * half, bridge + 0.14 * length), (0.12 * half, bottom)]))
    sketch.solid("shade", mirrored([(0.1 * half, scroll - 22), (0.13 * half, scroll + 20)]))
    sketch.solid("body", oval(200, scroll - 16, 13, 13))
    for peg, side in ((scroll - 2, -1), (scroll + 6, 1), (scroll + 14, -1), (scroll + 22, 1)):
        sketch.stroke("dark", 7, (200, peg), (200 + 28 * side, peg - 4))
    for string in (-0.1, -0.03, 0.03, 0.1):
        sketch.stroke("light", 2, (200 + 0.5 * string * half, scroll), (200 + string * half, bridge + 0.14 * length))
    sketch.solid("light", box(200 - 0.24 * half, bridge - 4, 200 + 0.24 * half, bridge + 4))
    for side in (-1, 1):
        f_hole = [(0.28, -0.11), (0.38, -0.08), (0.36, 0.06), (0.48, 0.09)]
        sketch.stroke(
            "dark", 5, *curve([(200 + side * x * half, bridge + y * length) for x, y in f_hole], closed=False)
        )


def _bow(sketch: Sketch, x: float, y: float, degrees: float, length: float) -> None:
    """A bow about a point: the stick, bent, over its hair, with a frog at one end."""
    bow = sketch.seen(turn=sketch.turn)  # an instrument that is turned away is narrow, the bow across it is not
    angle = math.radians(degrees)
    along, across = np.array([math.cos(angle), math.sin(angle)]), np.array([-math.sin(angle), math.cos(angle)])

    def at(distance: float, beside: float) -> tuple[float, float]:
        point_x, point_y = np.array([x, y]) + distance * along + beside * across
        return float(point_x), float(point_y)

    half = length / 2
    bow.stroke("light", 5, at(-half, 9), at(half, 9))
    bow.stroke("dark", 7, *curve([at(-half, 3), at(-half / 2, -4), at(half / 2, -4), at(half, 2)], closed=False))
    bow.solid("dark", [at(half - 26, -4), at(half, -4), at(half, 14), at(half - 26, 14)])
    hand_x, hand_y = at(half - 14, 4)
    bow.hand(hand_x, hand_y, degrees + 10)


def cello_on_its_pin(sketch: Sketch) -> None:
    sketch.stroke("dark", 8, (200, 360), (200, 398))
    _front(sketch, 122, 366, 104, 34)
    _bow(sketch, 200, 288, -12, 330)
    sketch.hand(196, 90, 160)


def cello_from_its_side(sketch: Sketch) -> None:
    sketch = sketch.seen(squeeze=0.66)
    sketch.stroke("dark", 8, (220, 360), (240, 398))
    sketch.solid("shade", *([(x + shift, y) for x, y in _body(122, 366, 106)] for shift in (50, 25)))
    _front(sketch, 122, 366, 106, 30)
    _bow(sketch, 180, 270, 16, 300)
    sketch.hand(196, 90, 160)


def leaning_cello(sketch: Sketch) -> None:
    leaning = sketch.seen(turn=28, taper=0.1)
    leaning.stroke("dark", 8, (200, 350), (200, 398))
    _front(leaning, 140, 356, 92, 44)
    _bow(sketch.seen(), 178, 258, -4, 340)
    leaning.hand(196, 100, 160)


def cello_from_above(sketch: Sketch) -> None:
    sketch = sketch.seen(turn=14, taper=-0.28)
    sketch.stroke("dark", 6, (200, 352), (200, 396))
    _front(sketch, 140, 360, 112, 40)
    _bow(sketch.seen(), 186, 262, 10, 330)
    sketch.hand(196, 96, 160)


def cello_from_below(sketch: Sketch) -> None:
    sketch = sketch.seen(turn=-16, taper=0.3)
    sketch.stroke("dark", 9, (200, 352), (200, 398))
    _front(sketch, 134, 360, 92, 36)
    _bow(sketch, 204, 302, 24, 310)
    sketch.hand(196, 96, 160)


def _chin_rest(sketch: Sketch, bottom: float, half: float) -> None:
    sketch.solid("dark", oval(200 - 0.45 * half, bottom - 14, 0.4 * half, 20))


def violin_beside_its_bow(sketch: Sketch) -> None:
    _front(sketch, 150, 384, 84, 40)
    _chin_rest(sketch, 384, 84)
    _bow(sketch, 320, 205, 88, 370)
    sketch.hand(200, 100, 170)


def violin_under_a_bow(sketch: Sketch) -> None:
    sketch = sketch.seen(turn=78)
    _front(sketch, 142, 384, 88, 36)
    _chin_rest(sketch, 384, 88)
    _bow(sketch, 196, 262, 8, 330)
    sketch.hand(196, 90, 20)


def violin_from_its_side(sketch: Sketch) -> None:
    sketch = sketch.seen(turn=-38, squeeze=0.62)
    sketch.solid("shade", *([(x + shift, y) for x, y in _body(142, 380, 88)] for shift in (34, 17)))
    _front(sketch, 142, 380, 88, 36)
    _chin_rest(sketch, 380, 88)
    _bow(sketch, 200, 258, -16, 280)
    sketch.hand(196, 92, 170)


def violin_across_a_bow(sketch: Sketch) -> None:
    sketch = sketch.seen(turn=42, taper=0.22)
    _front(sketch, 148, 380, 78, 40)
    _chin_rest(sketch, 380, 78)
    _bow(sketch, 205, 255, -28, 340)
    sketch.hand(196, 92, 10)


def violin_in_profile(sketch: Sketch) -> None:
    sketch = sketch.seen(turn=6)
    sketch.solid("body", curve([(22, 214), (110, 206), (216, 212), (218, 244), (110, 248), (26, 246)]))
    sketch.stroke("dark", 3, *curve([(24, 222), (110, 216), (218, 220)], closed=False))
    sketch.solid("shade", [(150, 192), (350, 200), (350, 214), (216, 222), (150, 202)])
    sketch.solid("body", curve([(346, 196), (386, 196), (396, 214), (384, 226), (370, 214), (346, 216)]))
    for peg in (352, 366):
        sketch.stroke("dark", 7, (peg, 206), (peg - 4, 232))
    sketch.solid("light", [(106, 208), (124, 208), (114, 178)])
    sketch.stroke("dark", 3, (30, 206), (115, 178), (350, 198))
    sketch.solid("dark", tube([(22, 200), (50, 194), (76, 200)], [14, 16, 8]))
    _bow(sketch, 140, 164, -34, 300)
    sketch.hand(310, 220, 60)
