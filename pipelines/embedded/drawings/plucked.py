"""Guitars, banjos and harps."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from pipelines.embedded.drawings.sketch import Outline, Point, Sketch, box, curve, mirrored, oval, tube

_GUITAR = mirrored([(20, 166), (56, 176), (66, 212), (50, 256), (84, 318), (76, 370), (28, 392)])
_SLENDER_GUITAR = mirrored([(16, 150), (62, 160), (74, 195), (34, 250), (90, 305), (92, 360), (30, 390)])
_NEAR_GUITAR = mirrored([(40, 128), (122, 140), (134, 192), (102, 240), (164, 312), (150, 374), (60, 394)])


def _guitar(sketch: Sketch, body: Outline, *, hole: tuple[float, float], neck: tuple[float, float]) -> None:
    """A body with a hole (height, radius), and a neck (half width, top)."""
    (hole_y, radius), (half, top) = hole, neck
    sketch.solid("body", body)
    sketch.solid("light", oval(200, hole_y, radius + 8, radius + 8))
    sketch.solid("dark", oval(200, hole_y, radius, radius))
    sketch.solid("shade", box(200 - half, top, 200 + half, hole_y - radius))
    for fret in np.linspace(top + 14, hole_y - radius - 6, 9):
        sketch.stroke("light", 2, (200 - half, fret), (200 + half, fret))
    sketch.solid("dark", box(200 - 2.6 * half, hole_y + 2.4 * radius, 200 + 2.6 * half, hole_y + 2.4 * radius + 12))
    for string in np.linspace(-0.75, 0.75, 6) * half:
        sketch.stroke("light", 2, (200 + string, top), (200 + string, hole_y + 2.4 * radius))
    sketch.hand(200, top + 50, 155)
    sketch.hand(215, hole_y + 30, 20)


def _guitar_head(sketch: Sketch, half: float, top: float, bottom: float) -> None:
    sketch.solid("shade", mirrored([(half, top), (half + 4, top + 12), (half - 4, bottom)]))
    for peg in np.linspace(top + 12, bottom - 14, 3):
        for side in (-1, 1):
            sketch.solid("light", oval(200 + side * (half + 11), peg, 8, 5))


def classical_guitar(sketch: Sketch) -> None:
    _guitar(sketch, curve(_GUITAR), hole=(236, 27), neck=(11, 60))
    _guitar_head(sketch, 20, 8, 60)


def cutaway_guitar(sketch: Sketch) -> None:
    outline = [(180, 172), (140, 184), (132, 220), (150, 260), (110, 322), (128, 378), (200, 392)]
    outline += [(272, 378), (290, 322), (250, 262), (258, 230), (272, 196), (262, 190), (240, 214), (222, 226)]
    _guitar(sketch, curve(outline), hole=(250, 25), neck=(10, 56))
    sketch.solid("dark", curve([(232, 246), (262, 268), (268, 306), (240, 296), (224, 276)]))
    _guitar_head(sketch, 16, 4, 56)


def guitar_from_its_side(sketch: Sketch) -> None:
    sketch = sketch.seen(squeeze=0.62, turn=12)
    sketch.solid("shade", curve([(x + 62, y + 4) for x, y in _GUITAR]), curve([(x + 32, y + 2) for x, y in _GUITAR]))
    _guitar(sketch, curve(_GUITAR), hole=(236, 27), neck=(11, 60))
    _guitar_head(sketch, 22, 8, 60)


def guitar_on_a_lap(sketch: Sketch) -> None:
    sketch = sketch.seen(turn=-78)
    _guitar(sketch, curve(_SLENDER_GUITAR), hole=(218, 25), neck=(12, 58))
    sketch.solid("shade", mirrored([(24, 6), (20, 60)]))
    for slot in (-9, 9):
        sketch.solid("light", box(200 + slot - 4, 16, 200 + slot + 4, 50))


def guitar_from_near(sketch: Sketch) -> None:
    _guitar(sketch, curve(_NEAR_GUITAR), hole=(214, 42), neck=(19, 4))


def _banjo(sketch: Sketch, centre: float, radius: float, top: float, brackets: int) -> None:
    """A drum (height of its centre, radius) with brackets around, and a neck from a top with its fifth peg."""
    half = 10 + radius / 40
    for bracket in range(brackets):
        angle = 2 * math.pi * bracket / brackets
        x, y = 200 + radius * math.cos(angle), centre + radius * math.sin(angle)
        sketch.solid("shade", oval(x, y, 6, 6))
    sketch.solid("body", oval(200, centre, radius, radius))
    sketch.solid("light", oval(200, centre, 0.8 * radius, 0.8 * radius))
    sketch.solid("shade", box(200 - half, top, 200 + half, centre - 0.72 * radius))
    for fret in np.linspace(top + 10, centre - 0.8 * radius, 11):
        sketch.stroke("light", 2, (200 - half, fret), (200 + half, fret))
    sketch.solid("dark", box(200 - 2 * half, centre + 0.3 * radius, 200 + 2 * half, centre + 0.3 * radius + 9))
    sketch.solid("shade", box(200 - half, centre + 0.75 * radius, 200 + half, centre + 1.02 * radius))
    for string in np.linspace(-0.7, 0.7, 5) * half:
        sketch.stroke("dark", 2, (200 + string, top), (200 + string, centre + 0.8 * radius))
    sketch.hand(200, top + 40, 160)
    sketch.hand(212, centre + 10, 15)


def _banjo_head(sketch: Sketch, top: float, bottom: float) -> None:
    sketch.solid(
        "body", mirrored([(12, top), (22, top + 10), (15, (top + bottom) / 2), (20, bottom - 10), (9, bottom)])
    )
    for peg in (top + 12, bottom - 10):
        for side in (-1, 1):
            sketch.solid("light", oval(200 + 27 * side, peg, 7, 5))


def banjo_with_a_resonator(sketch: Sketch) -> None:
    sketch.solid("shade", oval(200, 292, 104, 104))
    _banjo(sketch, 292, 88, 52, 16)
    _banjo_head(sketch, 6, 52)
    sketch.solid("light", oval(176, 120, 8, 5))


def banjo_with_an_open_back(sketch: Sketch) -> None:
    sketch = sketch.seen(turn=35)
    _banjo(sketch, 300, 84, 46, 22)
    _banjo_head(sketch, 2, 46)


def banjo_from_its_side(sketch: Sketch) -> None:
    sketch = sketch.seen(squeeze=0.6, turn=-8)
    sketch.solid("shade", oval(250, 296, 92, 92), oval(226, 296, 92, 92))
    _banjo(sketch, 296, 92, 56, 14)
    _banjo_head(sketch, 8, 56)


def banjo_on_a_lap(sketch: Sketch) -> None:
    sketch = sketch.seen(turn=80, taper=0.12)
    _banjo(sketch, 288, 90, 70, 18)
    sketch.solid("shade", mirrored([(26, 8), (26, 22), (12, 70)]))
    for peg in (14, 32):
        for side in (-1, 1):
            sketch.solid("light", oval(200 + 30 * side, peg, 7, 5))
    sketch.solid("light", oval(174, 130, 8, 5))


def banjo_from_near(sketch: Sketch) -> None:
    _banjo(sketch, 240, 148, 6, 26)


def _harp(sketch: Sketch, neck: Sequence[Point], foot: Point, strings: int, *, pillar: Sequence[Point] = ()) -> None:
    """A neck along the top from the pillar, and a soundbox from its far end down to the pillar's foot."""
    line = curve(neck, closed=False)
    over = list(zip(*line, strict=True))
    x0, x1 = max(neck[0][0] + 16, foot[0] + 12), neck[-1][0] - 8
    for x in np.linspace(x0, x1, strings):
        top = float(np.interp(x, over[0], over[1]))
        bottom = float(np.interp(x, (foot[0], neck[-1][0]), (foot[1], neck[-1][1])))
        sketch.stroke("dark", 3, (x, top), (x, bottom))
    sketch.solid("shade", tube([foot, ((foot[0] + x1) / 2, (foot[1] + neck[-1][1]) / 2), neck[-1]], [58, 44, 26]))
    sketch.solid("body", tube([neck[0], *pillar, foot], [20] * (2 + len(pillar))))
    sketch.solid("body", tube(neck, [26] * len(neck)))
    middle = (neck[0][0] + x1) / 2
    sketch.hand(middle - 40, 215, 190)
    sketch.hand(middle + 20, 190, 15)


def concert_harp(sketch: Sketch) -> None:
    _harp(sketch, [(90, 40), (160, 72), (240, 62), (318, 120)], (96, 368), 11)
    sketch.solid("shade", oval(86, 34, 26, 24))
    sketch.solid("shade", box(52, 368, 160, 392))


def celtic_harp(sketch: Sketch) -> None:
    _harp(sketch, [(110, 66), (170, 48), (240, 92), (300, 96)], (150, 372), 13, pillar=[(64, 160), (78, 280)])
    sketch.solid("shade", box(126, 368, 196, 388))


def angular_harp(sketch: Sketch) -> None:
    sketch = sketch.seen(turn=12, squeeze=0.8)
    _harp(sketch, [(62, 90), (160, 52), (260, 40), (350, 34)], (92, 372), 16)


def harp_with_a_column(sketch: Sketch) -> None:
    _harp(sketch, [(112, 44), (150, 30), (200, 92), (270, 96), (340, 60)], (112, 352), 17)
    sketch.solid("shade", box(92, 56, 132, 66), box(92, 320, 132, 330), box(96, 6, 128, 34))
    sketch.solid("shade", mirrored([(60, 356), (74, 392)]))
    sketch.solid("body", box(62, 350, 190, 372))


def lap_harp(sketch: Sketch) -> None:
    sketch = sketch.seen(turn=-14)
    _harp(sketch, [(80, 120), (160, 66), (250, 80), (330, 150)], (150, 350), 9, pillar=[(74, 200), (100, 290)])
