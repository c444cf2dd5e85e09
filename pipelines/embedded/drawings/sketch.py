"""What instruments are drawn with: outlines, a palette, a style, and a point of view.

Coordinates are those of a canvas of CANVAS by CANVAS pixels, x to the right and y down, whose middle is MIDDLE.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw

CANVAS = 400
"""Drawings are made about this many pixels wide and high, then shrunk: that smooths their edges."""
MIDDLE = CANVAS / 2
_MARGIN = 90
"""Pixels around the canvas that what is turned or in a hand may reach into."""

Colour = tuple[int, int, int]
Point = tuple[float, float]
Outline = Sequence[Point]
Tone = Literal["body", "shade", "light", "dark"]
Style = Literal["painted", "outlined", "flat"]
STYLES: tuple[Style, ...] = ("painted", "outlined", "flat")
"""Parts filled and edged; a pale drawing in lines; parts filled, with no edge."""
_EDGES = {"painted": 3, "outlined": 6, "flat": 0}
"""Width of an edge by style, in pixels."""


@dataclass(frozen=True, kw_only=True)
class Palette:
    """Colours of a drawing."""

    body: Colour
    shade: Colour
    light: Colour
    dark: Colour
    skin: Colour

    def filling(self, tone: Tone, style: Style) -> Colour:
        """The colour that fills a part: of a body or what is shaded, one nearer to white in a drawing in lines."""
        colour = getattr(self, tone)
        if style != "outlined" or tone not in ("body", "shade"):
            return colour
        share = 0.7 if tone == "body" else 0.4
        red, green, blue = (round(own + share * (255 - own)) for own in colour)
        return red, green, blue


def oval(x: float, y: float, across: float, down: float) -> Outline:
    """An ellipse by its centre and half axes."""
    angles = np.linspace(0, 2 * math.pi, 40, endpoint=False)
    return [(x + across * math.cos(angle), y + down * math.sin(angle)) for angle in angles]


def box(left: float, top: float, right: float, bottom: float) -> Outline:
    """A rectangle."""
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def curve(points: Sequence[Point], closed: bool = True) -> Outline:
    """A smooth line through points (Catmull and Rom, 1974), which goes back to the first if it is closed."""
    knots = np.asarray([points[-1], *points, *points[:2]] if closed else [points[0], *points, points[-1]], float)
    steps = np.linspace(0, 1, 8, endpoint=False)[:, None]
    pieces = [
        0.5 * (2 * b + (c - a) * steps + (2 * a - 5 * b + 4 * c - d) * steps**2 + (3 * (b - c) + d - a) * steps**3)
        for a, b, c, d in zip(knots, knots[1:], knots[2:], knots[3:], strict=False)
    ]
    line = [(float(x), float(y)) for x, y in np.concatenate(pieces)]
    return line if closed else [*line, points[-1]]


def mirrored(half: Sequence[Point]) -> Outline:
    """The outline of a symmetric shape, from half widths and heights (half, y) down its right side."""
    right = [(MIDDLE + across, y) for across, y in half]
    return [*right, *((2 * MIDDLE - x, y) for x, y in reversed(right))]


def tube(path: Sequence[Point], widths: Sequence[float]) -> Outline:
    """A tube along a smooth line through points, with a width at each of them."""
    line = np.asarray(curve(path, closed=False))
    along = np.gradient(line, axis=0)
    across = np.stack([-along[:, 1], along[:, 0]], axis=1) / np.linalg.norm(along, axis=1, keepdims=True)
    at = np.linspace(0, len(path) - 1, len(line))
    halves = np.interp(at, np.arange(len(path)), widths)[:, None] / 2
    return [(float(x), float(y)) for x, y in np.concatenate([line + across * halves, (line - across * halves)[::-1]])]


def _layer() -> Image.Image:
    return Image.new("RGBA", (CANVAS + 2 * _MARGIN, CANVAS + 2 * _MARGIN))


@dataclass(frozen=True, kw_only=True)
class Sketch:
    """An instrument as it is being drawn, and a player's hands before it, on a layer of their own."""

    palette: Palette
    style: Style
    instrument: Image.Image = field(default_factory=_layer)
    """RGBA, with a margin around the canvas."""
    hands: Image.Image = field(default_factory=_layer)
    """The same size."""
    turn: float = 0.0
    """Degrees, clockwise, about the middle; the last that is done to a point."""
    squeeze: float = 1.0
    """Width as a share of what it is from the front: what is turned away from the viewer is narrow."""
    taper: float = 0.0
    """Growth of widths from the middle to the lower border: the end that is near the viewer is wide."""

    def seen(self, *, turn: float = 0.0, squeeze: float = 1.0, taper: float = 0.0) -> Sketch:
        """The same sketch, drawn on from another point of view."""
        return replace(self, turn=turn, squeeze=squeeze, taper=taper)

    def solid(self, tone: Tone, *outlines: Sequence[Point]) -> None:
        """A part made of one or more overlapping shapes, with an edge around all of them."""
        draw = ImageDraw.Draw(self.instrument)
        edge = _EDGES[self.style]
        shapes = [self._placed(outline) for outline in outlines]
        for shape in shapes if edge else []:
            draw.line([*shape, *shape[:2]], self.palette.shade, 2 * edge, joint="curve")
        for shape in shapes:
            draw.polygon(shape, self.palette.filling(tone, self.style))

    def stroke(self, tone: Tone, width: float, *points: Point) -> None:
        """A line through points."""
        ImageDraw.Draw(self.instrument).line(
            self._placed(points), getattr(self.palette, tone), round(width), joint="curve"
        )

    def hand(self, x: float, y: float, turn: float) -> None:
        """A hand at a point, with the forearm off in a direction: 0 to the right, 90 down."""
        draw = ImageDraw.Draw(self.hands)
        skin = self.palette.skin
        ((x, y),) = self._placed([(x, y)])
        angle = math.radians(turn + self.turn)
        along, across = np.array([math.cos(angle), math.sin(angle)]), np.array([-math.sin(angle), math.cos(angle)])
        wrist, elbow = np.array([x, y]) + 26 * along, np.array([x, y]) + 130 * along
        draw.line([*wrist, *elbow], skin, 26)
        draw.ellipse([*(wrist - 13), *(wrist + 13)], skin)
        draw.ellipse([x - 20, y - 20, x + 20, y + 20], skin)
        seam = (skin[0] * 2 // 3, skin[1] * 2 // 3, skin[2] * 2 // 3)
        for finger in (-13.5, -4.5, 4.5, 13.5):
            root = np.array([x, y]) + finger * across
            tip = root - (34 - abs(finger) / 2) * along
            draw.line([*root, *tip], seam, 11)
            draw.line([*root, *tip], skin, 8)
            draw.ellipse([*(tip - 4), *(tip + 4)], skin)

    def _placed(self, points: Sequence[Point]) -> list[Point]:
        """Points of the canvas as the point of view shows them, in pixels of a layer."""
        turn, centre = math.radians(self.turn), MIDDLE + _MARGIN
        placed = []
        for x, y in points:
            across = (x - MIDDLE) * self.squeeze * (1 + self.taper * (y - MIDDLE) / MIDDLE)
            down = y - MIDDLE
            placed.append(
                (
                    centre + across * math.cos(turn) - down * math.sin(turn),
                    centre + across * math.sin(turn) + down * math.cos(turn),
                )
            )
        return placed


Drawing = Callable[[Sketch], None]
"""Draws an instrument, and where its player's hands are."""
