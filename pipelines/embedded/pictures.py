"""Pictures of the embedded corpus: drawn instruments before cluttered backgrounds, boxes that are true by construction.

Each class has several drawings (`pipelines.embedded.drawings`), those of test clips never in training. Colours are
drawn for each picture by itself, of instruments as of backgrounds and clutter, and every class draws from the same
ones: only shape says what is there.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from pipelines.embedded.drawings.classes import DRAWINGS
from pipelines.embedded.drawings.sketch import STYLES, Colour, Drawing, Palette, Sketch, curve, oval

WIDTH, HEIGHT = 256, 192
FRAMES_PER_SECOND = 10
BACKGROUNDS = {"train": ("gradient", "stripes", "clouds"), "test": ("rings", "tiles")}
"""Kinds of background by split; no kind is in both."""
CLUTTER = {"train": ("crate", "ball", "cable"), "test": ("wedge", "rod", "hoop")}
"""Kinds of things that lie about, by split; no kind is in both."""

Corners = tuple[float, float, float, float]
"""Corners x0, y0, x1, y1 as fractions of the picture's width and height."""

_TURN = 90.0
"""Degrees by which an instrument is turned, at most, either way."""
_NEARNESS = 0.25
"""By how much what is near is larger than the middle, at most, as a share of it."""
_SWAY_PIXELS = 2
_SWAY_HZ = 1.3
_SKINS = ((247, 214, 190), (224, 172, 138), (186, 130, 92), (132, 86, 58), (86, 56, 40))
_OPAQUE = 96
"""Alpha, of 255, from which a pixel at an edge counts as the instrument's."""


@dataclass(frozen=True, kw_only=True)
class Sprite:
    """A cut-out instrument, perhaps with its player's hands."""

    picture: Image.Image
    """RGBA."""
    box: tuple[int, int, int, int]
    """Left, top, right and bottom of the instrument alone, in the picture's pixels."""


def draw_palette(rng: np.random.Generator) -> Palette:
    """Colours of one drawing, from the same ranges whatever it is of."""
    hue = rng.random()
    edge_hue = hue if rng.random() < 0.7 else rng.random()
    pale = _colour(rng.random(), rng.uniform(0.0, 0.4), rng.uniform(0.75, 1.0))
    deep = _colour(rng.random(), rng.uniform(0.0, 0.6), rng.uniform(0.05, 0.2))
    # In either order: how much of a drawing is pale or deep would else say what it is of.
    light, dark = (pale, deep) if rng.random() < 0.5 else (deep, pale)
    return Palette(
        body=_colour(hue, rng.uniform(0.1, 0.9), rng.uniform(0.5, 0.95)),
        shade=_colour(edge_hue, rng.uniform(0.3, 0.95), rng.uniform(0.15, 0.35)),
        light=light,
        dark=dark,
        skin=_SKINS[rng.integers(len(_SKINS))],
    )


def draw_instrument(drawing: Drawing, size: float, rng: np.random.Generator) -> Sprite:
    """A drawing in colours, style and proportions of its own, turned and seen from a side, with hands or not.

    `size` is the longer side of the instrument in pixels.
    """
    sketch = Sketch(palette=draw_palette(rng), style=STYLES[rng.integers(len(STYLES))])
    drawing(sketch)
    layers = [sketch.instrument]
    if rng.random() < 0.4:
        layers.append(sketch.hands)
    view = _draw_view(rng)
    # Half as large is still larger than any instrument in a picture, and takes a quarter of the time to turn.
    moved = [_seen(layer.reduce(2), view) for layer in layers]
    left, top, right, bottom = _extent(moved[0])
    scale = size / max(right - left, bottom - top)
    shrunk = [
        layer.resize((round(layer.width * scale), round(layer.height * scale)), Image.Resampling.LANCZOS)
        for layer in moved
    ]
    picture = shrunk[0].copy()
    for layer in shrunk[1:]:
        picture.alpha_composite(layer)
    return Sprite(picture=picture, box=_extent(shrunk[0]))


def _draw_view(rng: np.random.Generator) -> NDArray[np.float64]:
    """A point of view as a map of the plane, about the middle of what is seen and by half its side, [3, 3]: mirrored or
    not, wider or narrower, one side or end nearer, turned."""
    mirror, stretch = 1 - 2 * (rng.random() < 0.5), rng.uniform(0.7, 1.25)
    near_x, near_y = rng.uniform(-_NEARNESS, _NEARNESS, 2)
    turn = np.radians(rng.uniform(-_TURN, _TURN))
    flat = np.diag([mirror * stretch, 1.0, 1.0])
    near = np.array([[1, 0, 0], [0, 1, 0], [near_x, near_y, 1]])
    turned = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    return turned @ near @ flat


def _seen(layer: Image.Image, view: NDArray[np.float64]) -> Image.Image:
    """A square layer from a point of view, all of it."""
    half = layer.width / 2
    corners = view @ np.array([[-1, 1, 1, -1], [-1, -1, 1, 1], [1, 1, 1, 1]])
    x, y = corners[:2] / corners[2]
    width, height = np.ceil(half * np.array([np.ptp(x), np.ptp(y)])).astype(int).tolist()
    # Pillow asks where in the layer a pixel of the result comes from.
    to_plane = np.array([[1 / half, 0, x.min()], [0, 1 / half, y.min()], [0, 0, 1]])
    to_layer = np.array([[half, 0, half], [0, half, half], [0, 0, 1]])
    back = to_layer @ np.linalg.inv(view) @ to_plane
    back /= back[2, 2]
    return layer.transform(
        (width, height), Image.Transform.PERSPECTIVE, back.flatten()[:8].tolist(), Image.Resampling.BICUBIC
    )


def draw_background(kind: str, clutter: tuple[str, ...], rng: np.random.Generator) -> Image.Image:
    """An RGB background of WIDTH x HEIGHT: a kind in BACKGROUNDS with fine grain, things of kinds of CLUTTER on it."""
    light = _texture(kind, rng)
    low, high = (np.asarray(_colour(rng.random(), rng.uniform(0.1, 0.9), rng.uniform(*span))) for span in _SPANS)
    ground = low + (high - low) * light[..., None] + rng.normal(0, 5, (HEIGHT, WIDTH, 1))
    picture = Image.fromarray(ground.clip(0, 255).astype(np.uint8), "RGB")
    things = picture.resize((2 * WIDTH, 2 * HEIGHT))
    for _ in range(rng.integers(5, 11)):
        _draw_thing(ImageDraw.Draw(things), clutter[rng.integers(len(clutter))], rng)
    return things.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)


_SPANS = ((0.25, 0.5), (0.55, 0.85))
"""Brightness of a background's darker and lighter colour."""


def _texture(kind: str, rng: np.random.Generator) -> NDArray[np.float64]:
    """Where a background is darker and lighter, [HEIGHT, WIDTH] from 0 to 1."""
    x, y = np.meshgrid(np.linspace(0, 1, WIDTH), np.linspace(0, 1, HEIGHT))
    turn, phase = rng.uniform(0, 2 * np.pi, 2)
    along = x * np.cos(turn) + y * np.sin(turn)
    if kind == "gradient":
        return (along - along.min()) / np.ptp(along)
    if kind == "stripes":
        return 0.5 + 0.5 * np.sin(2 * np.pi * rng.uniform(3, 8) * along + phase)
    if kind == "clouds":
        coarse = Image.fromarray(rng.uniform(0, 255, (6, 8)).astype(np.uint8))
        return np.asarray(coarse.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)) / 255
    if kind == "rings":
        centre_x, centre_y = rng.uniform(0.2, 0.8, 2)
        return 0.5 + 0.5 * np.cos(2 * np.pi * rng.uniform(2, 6) * np.hypot(x - centre_x, y - centre_y))
    if kind == "tiles":
        count = rng.uniform(3, 7)
        return (np.floor(x * count + phase) + np.floor(y * count + turn)) % 2
    raise ValueError(f"no background of kind {kind!r}; kinds are {BACKGROUNDS}")


def _draw_thing(draw: ImageDraw.ImageDraw, kind: str, rng: np.random.Generator) -> None:
    """One thing that lies about, somewhere in a picture of twice the size."""
    palette = draw_palette(rng)
    centre = rng.uniform((0, 0), (2 * WIDTH, 2 * HEIGHT))
    x, y = (float(value) for value in centre)
    size, turn = rng.uniform(16, 56), rng.uniform(0, 2 * np.pi)

    def around(corners: int, share: float = 1.0) -> list[tuple[float, float]]:
        angles = turn + 2 * np.pi * np.arange(corners) / corners
        return [(x + share * size * np.cos(angle), y + share * size * np.sin(angle)) for angle in angles]

    if kind == "crate":
        draw.polygon(around(4), palette.body, palette.shade, 5)
        draw.line([around(4)[0], around(4)[2]], palette.shade, 5)
    elif kind == "ball":
        draw.polygon(oval(x, y, size, size), palette.body, palette.shade, 5)
        draw.polygon(oval(x - 0.3 * size, y - 0.3 * size, 0.3 * size, 0.3 * size), palette.light)
    elif kind == "cable":
        points = [(x + i * 60, y + float(rng.uniform(-50, 50))) for i in range(-2, 3)]
        draw.line(curve(points, closed=False), palette.dark, 6, joint="curve")
    elif kind == "wedge":
        draw.polygon(around(3), palette.body, palette.shade, 5)
        draw.polygon(around(3, 0.4), palette.light)
    elif kind == "rod":
        draw.line([around(2, 1.8)[0], around(2, 1.8)[1]], palette.body, 12)
    elif kind == "hoop":
        draw.line([*oval(x, y, size, size), (x + size, y)], palette.shade, 10, joint="curve")
    else:
        raise ValueError(f"nothing of kind {kind!r} lies about; kinds are {CLUTTER}")


def draw_frames(
    label: str,
    distractor: str | None,
    background: str,
    num_frames: int,
    rng: np.random.Generator,
    *,
    split: str,
    rests_in: int | None = None,
) -> tuple[list[Image.Image], Corners]:
    """The frames of one take and the box of its sounding object, without its player's hands.

    Drawings and clutter are of a split, "train" or "test"; none is in both. The sounding object sways by up to two
    pixels; in the frame `rests_in`, the middle one if that is None, it rests exactly in the box. A `distractor`
    (another class, silent) stands still in the other half of the picture and has no box.
    """
    rests_in = num_frames // 2 if rests_in is None else rests_in
    still = draw_background(background, CLUTTER[split], rng)
    room = (0, WIDTH)
    if distractor is not None:
        halves = [(0, WIDTH // 2), (WIDTH // 2, WIDTH)]
        room, other_room = halves if rng.random() < 0.5 else halves[::-1]
        silent, (left, top), _ = _place(_instrument(distractor, split, rng.uniform(80, 120), rng), other_room, rng)
        still.paste(silent, (left, top), silent)
    sprite = _instrument(label, split, rng.uniform(90, 120 if distractor else 175), rng)
    sounding, (left, top), box = _place(sprite, room, rng)
    phases = 2 * np.pi * _SWAY_HZ * (np.arange(num_frames) - rests_in) / FRAMES_PER_SECOND
    sway = np.stack([np.sin(phases), np.sin(2 * phases)], axis=1) * _SWAY_PIXELS
    frames = []
    for dx, dy in sway.round().astype(int).tolist():
        frame = still.copy()
        frame.paste(sounding, (left + dx, top + dy), sounding)
        frames.append(frame)
    x0, y0, x1, y1 = box
    return frames, (x0 / WIDTH, y0 / HEIGHT, x1 / WIDTH, y1 / HEIGHT)


def _instrument(label: str, split: str, size: float, rng: np.random.Generator) -> Sprite:
    drawings = DRAWINGS[label][split]
    return draw_instrument(drawings[rng.integers(len(drawings))], size, rng)


def _place(
    sprite: Sprite, room: tuple[int, int], rng: np.random.Generator
) -> tuple[Image.Image, tuple[int, int], tuple[int, int, int, int]]:
    """A sprite put at random between two columns: what of it is in there, its left and top, and the instrument's box.

    The instrument is clear of every border by the sway; hands and arms are cut off there.
    """
    x0, y0, x1, y1 = sprite.box
    first, last, lowest = room[0] + _SWAY_PIXELS, room[1] - _SWAY_PIXELS, HEIGHT - _SWAY_PIXELS
    left = int(rng.integers(first, last - (x1 - x0), endpoint=True)) - x0
    top = int(rng.integers(_SWAY_PIXELS, lowest - (y1 - y0), endpoint=True)) - y0
    inside = (max(first - left, 0), max(_SWAY_PIXELS - top, 0), last - left, lowest - top)
    part = sprite.picture.crop(
        (*inside[:2], min(inside[2], sprite.picture.width), min(inside[3], sprite.picture.height))
    )
    return part, (left + inside[0], top + inside[1]), (left + x0, top + y0, left + x1, top + y1)


def _extent(layer: Image.Image) -> tuple[int, int, int, int]:
    """The box of what is opaque in a layer that is not empty."""
    extent = layer.getchannel("A").point([255 * (alpha >= _OPAQUE) for alpha in range(256)]).getbbox()
    assert extent is not None
    return extent


def _colour(hue: float, saturation: float, value: float) -> Colour:
    red, green, blue = (round(255 * part) for part in colorsys.hsv_to_rgb(hue, saturation, value))
    return red, green, blue
