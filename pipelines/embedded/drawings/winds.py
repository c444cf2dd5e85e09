"""Clarinets, flutes, saxophones and trumpets."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipelines.embedded.drawings.sketch import Point, Sketch, box, curve, mirrored, oval, tube


def _clarinet(sketch: Sketch, half: float, bell: float, keys: Sequence[float], *, levers: bool = False) -> None:
    """A mouthpiece, a straight tube with rings between its joints, a bell (half width), and keys at heights."""
    sketch.solid("dark", mirrored([(5, 6), (0.7 * half, 56)]))
    sketch.solid("light", box(200 - 0.7 * half, 34, 200 + 0.7 * half, 46))
    sketch.solid("body", mirrored([(half, 56), (half, 322), (1.15 * half, 342), (bell, 394), (0, 394)]))
    for ring in (56, 96, 206, 316):
        sketch.solid("light", box(200 - 1.15 * half, ring, 200 + 1.15 * half, ring + 9))
    for y in keys:
        sketch.solid("light", oval(200, y, 0.6 * half, 0.55 * half))
    for lever in (130, 180, 250, 290) if levers else ():
        sketch.solid("light", box(200 + half - 4, lever, 200 + 1.7 * half, lever + 8))
        sketch.stroke("light", 4, (200 + 1.4 * half, lever - 20), (200 + 1.4 * half, lever + 30))
    sketch.hand(206, 160, 20)
    sketch.hand(194, 270, 165)


def clarinet_upright(sketch: Sketch) -> None:
    _clarinet(sketch, 22, 52, (120, 146, 172, 232, 258, 284))


def clarinet_with_levers(sketch: Sketch) -> None:
    _clarinet(sketch.seen(turn=38), 16, 44, (116, 136, 156, 176, 234, 254, 274), levers=True)


def clarinet_in_profile(sketch: Sketch) -> None:
    sketch = sketch.seen(turn=-24)
    _clarinet(sketch, 18, 46, (), levers=True)
    for y in (118, 144, 170, 228, 254, 280):
        sketch.solid("light", box(172, y, 182, y + 14))
    sketch.solid("dark", [(195, 4), (214, 30), (214, 56), (186, 56)])


def clarinet_from_below(sketch: Sketch) -> None:
    sketch = sketch.seen(taper=0.55, turn=14)
    _clarinet(sketch, 20, 48, (124, 150, 176, 230, 256, 284))
    sketch.solid("shade", oval(200, 388, 46, 16))
    sketch.solid("dark", oval(200, 388, 34, 10))


def clarinet_held_low(sketch: Sketch) -> None:
    _clarinet(sketch.seen(turn=-62), 19, 60, (114, 138, 162, 186, 240, 264, 288, 304), levers=True)


def _flute(sketch: Sketch, half: float, keys: Sequence[float], *, left: float = 8, rod: bool = False) -> None:
    """A tube along the middle with an embouchure plate, joints and keys at places along it."""
    sketch.solid("body", box(left, 200 - half, 392, 200 + half))
    sketch.solid("shade", oval(66, 200 - 0.6 * half, 26, 0.8 * half))
    sketch.solid("dark", oval(66, 200 - 0.7 * half, 11, 0.35 * half))
    for joint in (116, 338):
        sketch.solid("shade", box(joint, 200 - 1.25 * half, joint + 14, 200 + 1.25 * half))
    if rod:
        sketch.solid("shade", box(140, 200 + 0.8 * half, 330, 200 + 1.2 * half))
    for x in keys:
        sketch.solid("light", oval(x, 200 - 0.1 * half, 12, 0.75 * half))
        sketch.solid("shade", oval(x, 200 - 0.1 * half, 5, 0.3 * half))
    sketch.hand(180, 210, 100)
    sketch.hand(290, 206, 70)


def flute_level(sketch: Sketch) -> None:
    _flute(sketch, 19, (156, 188, 220, 252, 284, 316, 368))


def flute_with_a_rod(sketch: Sketch) -> None:
    _flute(sketch.seen(turn=24), 14, (150, 176, 202, 228, 266, 292, 318, 362, 382), rod=True)


def alto_flute(sketch: Sketch) -> None:
    sketch = sketch.seen(turn=-12)
    sketch.solid("body", tube([(140, 140), (60, 140), (28, 170), (60, 200), (120, 200)], [34] * 5))
    sketch.solid("shade", oval(116, 130, 24, 16))
    sketch.solid("dark", oval(116, 128, 10, 7))
    sketch.solid("body", box(110, 183, 394, 217))
    sketch.solid("shade", box(126, 178, 140, 222))
    for x in (166, 200, 234, 268, 302, 336, 370):
        sketch.solid("light", oval(x, 198, 14, 13))
        sketch.solid("shade", oval(x, 198, 6, 5))
    sketch.hand(200, 210, 100)
    sketch.hand(310, 206, 70)


def flute_from_its_foot(sketch: Sketch) -> None:
    sketch = sketch.seen(turn=-58, taper=0.5)
    sketch.solid("body", mirrored([(16, 8), (18, 392)]))
    sketch.solid("shade", oval(184, 66, 13, 26))
    sketch.solid("dark", oval(182, 66, 6, 12))
    for joint in (112, 330):
        sketch.solid("shade", box(178, joint, 222, joint + 14))
    for y in (150, 182, 214, 246, 278, 310, 366):
        sketch.solid("light", oval(198, y, 13, 13))
        sketch.solid("shade", oval(198, y, 5, 5))
    sketch.solid("dark", oval(200, 390, 11, 5))
    sketch.hand(206, 190, 20)
    sketch.hand(206, 290, 10)


def flute_raised(sketch: Sketch) -> None:
    sketch = sketch.seen(turn=-30)
    _flute(sketch, 16, (148, 172, 196, 232, 256, 280, 304), rod=True)
    for x in (160, 220, 268):
        sketch.solid("light", box(x, 178, x + 18, 186))


def _saxophone(sketch: Sketch, path: Sequence[Point], widths: Sequence[float], keys: Sequence[Point]) -> None:
    """A mouthpiece at the path's start, a tube that widens along it up to a bell, and keys."""
    (x, y), (next_x, next_y) = path[:2]
    sketch.solid("dark", tube([(x - 0.7 * (next_x - x), y - 0.7 * (next_y - y)), (x, y)], [7, widths[0] + 6]))
    body = tube(path, widths)
    sketch.solid("body", body)
    sketch.stroke("shade", 12, *body[len(body) // 2 - 1 : len(body) // 2 + 1])
    for key_x, key_y in keys:
        sketch.solid("light", oval(key_x, key_y, 13, 13))
        sketch.solid("shade", oval(key_x, key_y, 5, 5))
    (upper_x, upper_y), (lower_x, lower_y) = keys[1], keys[-2]
    sketch.hand(upper_x, upper_y, 160)
    sketch.hand(lower_x, lower_y, 175)


def tenor_saxophone(sketch: Sketch) -> None:
    path = [(100, 62), (150, 36), (178, 80), (192, 190), (214, 300), (262, 356), (308, 310), (322, 230), (330, 160)]
    _saxophone(sketch, path, [12, 16, 24, 36, 50, 60, 64, 78, 124], [(180 + 6 * i, 104 + 34 * i) for i in range(6)])
    sketch.solid("shade", oval(331, 158, 62, 20))


def alto_saxophone(sketch: Sketch) -> None:
    path = [(112, 96), (150, 62), (184, 96), (190, 200), (196, 310), (236, 364), (280, 320), (296, 256), (330, 200)]
    _saxophone(sketch, path, [13, 17, 26, 40, 56, 66, 70, 86, 140], [(187 + i, 126 + 32 * i) for i in range(6)])
    sketch.solid("light", box(224, 150, 238, 300))


def baritone_saxophone(sketch: Sketch) -> None:
    path = [(84, 120), (120, 100), (150, 120), (190, 126), (206, 76), (170, 34), (140, 70), (166, 130)]
    path += [(186, 220), (208, 322), (250, 372), (292, 330), (306, 240), (318, 150)]
    widths = [11, 13, 16, 18, 20, 22, 24, 27, 38, 50, 60, 64, 76, 116]
    _saxophone(sketch, path, widths, [(172 + 6 * i, 154 + 32 * i) for i in range(6)])


def saxophone_from_its_bell(sketch: Sketch) -> None:
    path = [(96, 80), (142, 40), (176, 76), (184, 190), (192, 300), (240, 372), (290, 330), (300, 270), (298, 220)]
    _saxophone(
        sketch.seen(turn=10),
        path,
        [12, 16, 24, 36, 52, 66, 76, 100, 120],
        [(179 + 3 * i, 106 + 34 * i) for i in range(6)],
    )
    bell = sketch.seen(turn=10)
    bell.solid("body", oval(300, 214, 76, 66))
    bell.solid("shade", oval(300, 214, 60, 51))
    bell.solid("dark", oval(304, 222, 36, 31))


def saxophone_held_low(sketch: Sketch) -> None:
    sketch = sketch.seen(turn=-34, squeeze=0.94)
    path = [(92, 40), (130, 24), (166, 54), (184, 170), (206, 296), (250, 360), (300, 330), (330, 270), (372, 240)]
    _saxophone(sketch, path, [11, 15, 22, 34, 48, 56, 60, 72, 130], [(172 + 6.5 * i, 84 + 36 * i) for i in range(7)])
    sketch.solid("light", [(246, 300), (262, 306), (238, 344), (226, 334)])


def _trumpet(
    sketch: Sketch, *, loop: tuple[float, float, float, float], bell: float, valves: Sequence[float], pipe: float
) -> None:
    """A pipe at a height from the mouthpiece to a bell (half width), a loop below (box), and three valves."""
    left, top, right, bottom = loop
    thick = 9
    middle = (top + bottom) / 2
    ring = [(left + 30, top), (right - 30, top), (right, middle), (right - 30, bottom)]
    ring += [(left + 30, bottom), (left, middle), (left + 30, top)]
    sketch.solid("body", tube(ring, [2 * thick] * len(ring)))
    flare = [(20, pipe), (230, pipe), (300, pipe), (350, pipe), (386, pipe)]
    sketch.solid("body", tube(flare, [14, 18, 26, 60, 2 * bell]))
    sketch.solid("shade", oval(386, pipe, 9, bell))
    sketch.solid("light", [(4, pipe - 16), (30, pipe - 6), (30, pipe + 6), (4, pipe + 16)])
    for x in valves:
        sketch.solid("shade", box(x - 12, top - 6, x + 12, bottom + 18))
        sketch.solid("light", box(x - 4, top - 30, x + 4, top - 6))
        sketch.solid("light", oval(x, top - 32, 12, 6))
    sketch.hand(valves[0], middle + 20, 110)
    sketch.hand(valves[2], top - 24, 60)


def trumpet_level(sketch: Sketch) -> None:
    _trumpet(sketch, loop=(84, 176, 292, 262), bell=86, valves=(150, 188, 226), pipe=180)


def slim_trumpet(sketch: Sketch) -> None:
    _trumpet(sketch.seen(turn=-16), loop=(110, 184, 310, 240), bell=62, valves=(176, 206, 236), pipe=186)


def trumpet_from_its_bell(sketch: Sketch) -> None:
    sketch = sketch.seen(squeeze=0.72, turn=8)
    _trumpet(sketch, loop=(84, 184, 280, 262), bell=84, valves=(140, 178, 216), pipe=190)
    sketch.solid("body", oval(352, 190, 84, 108))
    sketch.solid("shade", oval(360, 190, 64, 86))
    sketch.solid("dark", oval(374, 192, 24, 34))


def pocket_trumpet(sketch: Sketch) -> None:
    sketch.solid("body", tube(curve([(90, 210), (160, 290), (270, 250), (290, 190)], closed=False)[::6], [16] * 5))
    _trumpet(sketch.seen(turn=4), loop=(96, 170, 286, 300), bell=74, valves=(160, 192, 224), pipe=174)


def trumpet_raised(sketch: Sketch) -> None:
    sketch = sketch.seen(turn=-40, taper=0.1)
    _trumpet(sketch, loop=(90, 188, 262, 272), bell=96, valves=(140, 174, 208), pipe=192)
    sketch.solid("light", *(oval(x, 150, 8, 8) for x in np.linspace(118, 232, 2)))
