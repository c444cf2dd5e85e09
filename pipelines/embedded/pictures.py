"""Pictures of the embedded corpus: plain backgrounds, drawn instruments, boxes that are true by construction.

Each class has one shape in one saturated colour; backgrounds are nearly grey, so that colour is nowhere
but on the instrument. The colours are a toy's, eleven that can be told apart, not the instruments' own.
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

WIDTH, HEIGHT = 256, 192
FRAMES_PER_SECOND = 10
BACKGROUNDS = {"train": ("gradient", "stripes", "clouds"), "test": ("rings", "tiles")}
"""Kinds of background by split; no kind is in both."""

Colour = tuple[int, int, int]
Corners = tuple[float, float, float, float]
"""Corners x0, y0, x1, y1 as fractions of the picture's width and height."""

_CANVAS = 400
"""Drawings are made this many pixels wide and high, then shrunk: that smooths their edges."""
_SWAY_PIXELS = 2
_SWAY_HZ = 1.3
_GREY, _WHITE = (150, 150, 150), (245, 245, 245)


def _accordion(draw: ImageDraw.ImageDraw, colour: Colour, shade: Colour) -> None:
    for fold in range(6):
        x = 115 + 28 * fold
        draw.polygon([(x, 120), (x + 14, 95), (x + 28, 120), (x + 28, 290), (x + 14, 315), (x, 290)], fill=shade)
        draw.polygon([(x + 4, 125), (x + 14, 107), (x + 24, 125), (x + 24, 285), (x + 4, 285)], fill=colour)
    draw.rounded_rectangle([20, 80, 118, 330], 16, fill=colour, outline=shade, width=8)
    draw.rounded_rectangle([280, 80, 380, 330], 16, fill=colour, outline=shade, width=8)
    for key in range(8):
        draw.rectangle([36, 98 + 27 * key, 80, 120 + 27 * key], fill=_WHITE)
    for row in range(6):
        for column in range(2):
            x, y = 305 + 34 * column, 110 + 34 * row
            draw.ellipse([x, y, x + 18, y + 18], fill=_WHITE)


def _guitar(draw: ImageDraw.ImageDraw, colour: Colour, shade: Colour) -> None:
    draw.rectangle([187, 50, 213, 240], fill=shade)
    draw.polygon([(178, 8), (222, 8), (216, 58), (184, 58)], fill=shade)
    draw.ellipse([128, 165, 272, 290], fill=colour, outline=shade, width=6)
    draw.ellipse([105, 232, 295, 392], fill=colour, outline=shade, width=6)
    draw.ellipse([140, 180, 260, 300], fill=colour)
    draw.ellipse([170, 225, 230, 285], fill=(40, 30, 20))
    draw.rectangle([160, 335, 240, 347], fill=shade)
    for string in range(4):
        draw.line([190 + 7 * string, 20, 190 + 7 * string, 340], fill=_WHITE, width=2)


def _banjo(draw: ImageDraw.ImageDraw, colour: Colour, shade: Colour) -> None:
    draw.rectangle([190, 40, 212, 240], fill=shade)
    draw.rectangle([176, 6, 226, 52], fill=shade)
    draw.ellipse([110, 205, 292, 387], fill=colour, outline=shade, width=10)
    draw.ellipse([140, 235, 262, 357], fill=_WHITE, outline=colour, width=6)
    for bolt in range(12):
        angle = 2 * np.pi * bolt / 12
        x, y = 201 + 80 * np.cos(angle), 296 + 80 * np.sin(angle)
        draw.ellipse([x - 7, y - 7, x + 7, y + 7], fill=shade)
    draw.rectangle([172, 315, 230, 325], fill=shade)


def _cello(draw: ImageDraw.ImageDraw, colour: Colour, shade: Colour) -> None:
    draw.line([200, 350, 200, 396], fill=shade, width=8)
    draw.ellipse([118, 120, 282, 250], fill=colour)
    draw.ellipse([98, 205, 302, 362], fill=colour)
    draw.ellipse([78, 188, 138, 248], fill=(*colour, 0))
    draw.ellipse([262, 188, 322, 248], fill=(*colour, 0))
    draw.polygon([(186, 40), (214, 40), (222, 250), (178, 250)], fill=shade)
    draw.ellipse([180, 6, 220, 46], fill=shade)
    draw.arc([140, 215, 172, 285], 90, 270, fill=_WHITE, width=6)
    draw.arc([228, 215, 260, 285], 270, 90, fill=_WHITE, width=6)
    draw.line([45, 330, 355, 270], fill=shade, width=12)


def _clarinet(draw: ImageDraw.ImageDraw, colour: Colour, shade: Colour) -> None:
    draw.polygon([(190, 8), (210, 8), (216, 60), (184, 60)], fill=shade)
    draw.rectangle([178, 56, 222, 320], fill=colour)
    draw.polygon([(178, 318), (222, 318), (252, 392), (148, 392)], fill=colour)
    for ring in (75, 190, 315):
        draw.rectangle([172, ring, 228, ring + 14], fill=shade)
    for key in range(5):
        y = 100 + 42 * key
        draw.ellipse([188, y, 212, y + 24], fill=_WHITE)


def _flute(draw: ImageDraw.ImageDraw, colour: Colour, shade: Colour) -> None:
    draw.rounded_rectangle([8, 182, 392, 222], 18, fill=colour, outline=shade, width=5)
    draw.rectangle([100, 174, 118, 230], fill=shade)
    draw.rounded_rectangle([40, 166, 84, 200], 12, fill=shade)
    draw.ellipse([52, 174, 74, 192], fill=_WHITE)
    for key in range(6):
        x = 140 + 40 * key
        draw.ellipse([x, 186, x + 30, 216], fill=_WHITE, outline=shade, width=4)


def _harp(draw: ImageDraw.ImageDraw, colour: Colour, shade: Colour) -> None:
    for string in range(9):
        x = 110 + 22 * string
        draw.line([x, 75 + 4 * string, x, 365 - 28 * string], fill=shade, width=4)
    draw.line([85, 20, 85, 380], fill=colour, width=30)
    draw.line([70, 380, 320, 120], fill=colour, width=44)
    draw.line([80, 35, 180, 70, 250, 65, 320, 110], fill=colour, width=30, joint="curve")
    draw.ellipse([58, 6, 112, 60], fill=shade)
    draw.rounded_rectangle([50, 365, 150, 394], 8, fill=shade)


def _saxophone(draw: ImageDraw.ImageDraw, colour: Colour, shade: Colour) -> None:
    draw.line([90, 60, 150, 40, 180, 80], fill=shade, width=18, joint="curve")
    draw.polygon([(166, 70), (196, 66), (232, 300), (180, 310)], fill=colour)
    draw.pieslice([180, 230, 340, 390], 0, 180, fill=colour)
    draw.polygon([(296, 312), (340, 312), (372, 150), (250, 150)], fill=colour)
    draw.ellipse([246, 130, 376, 172], fill=shade)
    draw.ellipse([232, 290, 296, 340], fill=(*colour, 0))
    for key in range(5):
        y = 105 + 40 * key
        draw.ellipse([178 + 5 * key, y, 206 + 5 * key, y + 28], fill=_WHITE, outline=shade, width=4)


def _xylophone(draw: ImageDraw.ImageDraw, colour: Colour, shade: Colour) -> None:
    draw.polygon([(10, 120), (390, 165), (390, 185), (10, 150)], fill=shade)
    draw.polygon([(10, 300), (390, 255), (390, 235), (10, 270)], fill=shade)
    for bar in range(8):
        x, half = 18 + 47 * bar, 125 - 9 * bar
        draw.rounded_rectangle([x, 210 - half, x + 36, 210 + half], 8, fill=colour, outline=shade, width=4)
        draw.ellipse([x + 12, 205 - half * 0.65, x + 24, 217 - half * 0.65], fill=_WHITE)


def _trumpet(draw: ImageDraw.ImageDraw, colour: Colour, shade: Colour) -> None:
    draw.rounded_rectangle([90, 175, 280, 265], 42, outline=colour, width=18)
    draw.rectangle([20, 175, 310, 194], fill=colour)
    draw.polygon([(290, 175), (330, 160), (386, 100), (386, 270), (330, 208), (290, 194)], fill=colour)
    draw.ellipse([374, 98, 398, 272], fill=shade)
    draw.polygon([(4, 162), (34, 178), (34, 192), (4, 208)], fill=shade)
    for valve in range(3):
        x = 140 + 40 * valve
        draw.rectangle([x, 140, x + 26, 290], fill=shade)
        draw.ellipse([x - 2, 118, x + 28, 146], fill=colour)


def _violin(draw: ImageDraw.ImageDraw, colour: Colour, shade: Colour) -> None:
    draw.ellipse([135, 170, 265, 290], fill=colour)
    draw.ellipse([120, 250, 280, 392], fill=colour)
    draw.polygon([(110, 240), (150, 262), (122, 290)], fill=(*colour, 0))
    draw.polygon([(290, 240), (250, 262), (278, 290)], fill=(*colour, 0))
    draw.polygon([(190, 40), (210, 40), (216, 270), (184, 270)], fill=shade)
    draw.ellipse([182, 8, 218, 48], fill=shade)
    draw.line([165, 250, 160, 320], fill=_WHITE, width=6)
    draw.line([235, 250, 240, 320], fill=_WHITE, width=6)
    draw.rectangle([175, 322, 225, 332], fill=_WHITE)
    draw.line([318, 20, 342, 380], fill=shade, width=14)
    draw.line([308, 30, 328, 370], fill=_GREY, width=4)


_DRAWINGS: dict[str, tuple[Callable[[ImageDraw.ImageDraw, Colour, Colour], None], tuple[float, float, float]]] = {
    "playing accordion": (_accordion, (0.0, 0.85, 0.85)),
    "playing acoustic guitar": (_guitar, (0.08, 0.85, 0.95)),
    "playing banjo": (_banjo, (0.22, 0.85, 0.75)),
    "playing cello": (_cello, (0.75, 0.70, 0.60)),
    "playing clarinet": (_clarinet, (0.66, 0.80, 0.45)),
    "playing flute": (_flute, (0.50, 0.80, 0.85)),
    "playing harp": (_harp, (0.14, 0.90, 0.95)),
    "playing marimba, xylophone": (_xylophone, (0.38, 0.85, 0.65)),
    "playing saxophone": (_saxophone, (0.89, 0.75, 0.90)),
    "playing trumpet": (_trumpet, (0.58, 0.80, 0.95)),
    "playing violin, fiddle": (_violin, (0.04, 0.90, 0.50)),
}
"""Function that draws a class, and its colour as hue, saturation, value in [0, 1]."""


def class_colour(label: str) -> Colour:
    """The colour that fills a class's instrument, 0 to 255 each."""
    red, green, blue = (round(255 * value) for value in colorsys.hsv_to_rgb(*_DRAWINGS[label][1]))
    return red, green, blue


def draw_instrument(label: str, size: float, rng: np.random.Generator) -> Image.Image:
    """An RGBA picture of a class's instrument, tilted a little, sometimes mirrored, with no empty border.

    `size` is the longer side in pixels.
    """
    draw_shape, _ = _DRAWINGS[label]
    red, green, blue = class_colour(label)
    canvas = Image.new("RGBA", (_CANVAS, _CANVAS), (red, green, blue, 0))
    draw_shape(ImageDraw.Draw(canvas), (red, green, blue), (red * 3 // 5, green * 3 // 5, blue * 3 // 5))
    if rng.random() < 0.5:
        canvas = canvas.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    canvas = canvas.rotate(rng.uniform(-20, 20), Image.Resampling.BICUBIC, expand=True)
    canvas = canvas.crop(canvas.getchannel("A").getbbox())
    scale = size / max(canvas.size)
    return canvas.resize(
        (max(1, round(canvas.width * scale)), max(1, round(canvas.height * scale))), Image.Resampling.LANCZOS
    )


def draw_background(kind: str, rng: np.random.Generator) -> Image.Image:
    """A nearly grey RGB background of WIDTH x HEIGHT: one of the kinds in BACKGROUNDS, with fine grain."""
    x, y = np.meshgrid(np.linspace(0, 1, WIDTH), np.linspace(0, 1, HEIGHT))
    turn, phase = rng.uniform(0, 2 * np.pi, 2)
    along = x * np.cos(turn) + y * np.sin(turn)
    if kind == "gradient":
        texture = (along - along.min()) / np.ptp(along)
    elif kind == "stripes":
        texture = 0.5 + 0.5 * np.sin(2 * np.pi * rng.uniform(3, 8) * along + phase)
    elif kind == "clouds":
        coarse = Image.fromarray(rng.uniform(0, 255, (6, 8)).astype(np.uint8))
        texture = np.asarray(coarse.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)) / 255
    elif kind == "rings":
        centre_x, centre_y = rng.uniform(0.2, 0.8, 2)
        texture = 0.5 + 0.5 * np.cos(2 * np.pi * rng.uniform(2, 6) * np.hypot(x - centre_x, y - centre_y))
    elif kind == "tiles":
        count = rng.uniform(3, 7)
        texture = (np.floor(x * count + phase) + np.floor(y * count + turn)) % 2
    else:
        raise ValueError(f"no background of kind {kind!r}; kinds are {BACKGROUNDS}")
    dark, light = rng.uniform(0.25, 0.5), rng.uniform(0.55, 0.85)
    tint = np.asarray(colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.0, 0.2), 1.0))
    grain = rng.normal(0, 0.02, (HEIGHT, WIDTH, 1))
    picture = (dark + (light - dark) * texture[..., None]) * tint + grain
    return Image.fromarray((picture.clip(0, 1) * 255).astype(np.uint8), "RGB")


def draw_frames(
    label: str, distractor: str | None, background: str, num_frames: int, rng: np.random.Generator
) -> tuple[list[Image.Image], Corners]:
    """The frames of one clip and the box of its sounding object.

    The sounding object sways by up to two pixels; in the middle frame, `num_frames // 2`, it rests exactly
    in the box. A `distractor` (another class, silent) stands still in the other half of the picture and has no box.
    """
    still = draw_background(background, rng)
    room = (0, WIDTH)
    if distractor is not None:
        halves = [(0, WIDTH // 2), (WIDTH // 2, WIDTH)]
        room, other_room = halves if rng.random() < 0.5 else halves[::-1]
        silent = draw_instrument(distractor, rng.uniform(80, 120), rng)
        still.paste(silent, _place(silent, other_room, rng), silent)
    sounding = draw_instrument(label, rng.uniform(90, 120 if distractor else 175), rng)
    left, top = _place(sounding, room, rng)
    phases = 2 * np.pi * _SWAY_HZ * (np.arange(num_frames) - num_frames // 2) / FRAMES_PER_SECOND
    sway = np.stack([np.sin(phases), np.sin(2 * phases)], axis=1) * _SWAY_PIXELS
    frames = []
    for dx, dy in sway.round().astype(int).tolist():
        frame = still.copy()
        frame.paste(sounding, (left + dx, top + dy), sounding)
        frames.append(frame)
    right, bottom = left + sounding.width, top + sounding.height
    return frames, (left / WIDTH, top / HEIGHT, right / WIDTH, bottom / HEIGHT)


def _place(sprite: Image.Image, room: tuple[int, int], rng: np.random.Generator) -> tuple[int, int]:
    """Left and top of a sprite put at random between two columns, clear of every border by the sway."""
    left = rng.integers(room[0] + _SWAY_PIXELS, room[1] - _SWAY_PIXELS - sprite.width, endpoint=True)
    top = rng.integers(_SWAY_PIXELS, HEIGHT - _SWAY_PIXELS - sprite.height, endpoint=True)
    return int(left), int(top)
