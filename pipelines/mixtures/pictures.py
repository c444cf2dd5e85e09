"""Pictures and their truth as networks take them: squares of one size."""

from __future__ import annotations

import io
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

WHOLE = (0.0, 0.0, 1.0, 1.0)
"""All of a picture, as a part of it."""
_PICTURE_ERRORS = (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, ValueError)
"""Errors that Pillow raises for bytes that are no picture, or half of one."""


class UndecodableError(ValueError):
    """Bytes that cannot be decoded as a picture. The message says why, after the picture's name."""


def square_picture(
    jpeg: bytes,
    side: int,
    margin: float = 1.0,
    square: tuple[float, float, float] | None = None,
    part: tuple[float, float, float, float] = WHOLE,
) -> np.ndarray:
    """A picture as a square, uint8 [side, side, 3]; or a part of it, its left, upper, right and lower end as shares of
    the picture's sides.

    Without a square, all of it, resized in width and height. With a square (x, y, mirror): resized so that its short
    side is int(margin side), then the square that lies x of the way to the right and y of the way down, from left
    to right if mirror is below 0.5 (AVGN's training pictures). Bicubic. Raises UndecodableError.
    """
    picture = _decoded(jpeg, "RGB")
    x0, y0, x1, y1 = part
    left, top = x0 * picture.width, y0 * picture.height
    width, height = (x1 - x0) * picture.width, (y1 - y0) * picture.height
    if square is None:
        shown = (left, top, left + width, top + height)
        return np.asarray(picture.resize((side, side), Image.Resampling.BICUBIC, box=shown))
    x, y, mirror = square
    # The square in the picture's own pixels, so that it is cut and resized in one step.
    size = min(width, height) * side / int(margin * side)
    left, top = left + x * (width - size), top + y * (height - size)
    box = (left, top, left + size, top + size)
    pixels = np.asarray(picture.resize((side, side), Image.Resampling.BICUBIC, box=box))
    return pixels[:, ::-1] if mirror < 0.5 else pixels


def truth_of_boxes(boxes: Sequence[Mapping[str, Any]], class_ids: Collection[int], side: int) -> np.ndarray | None:
    """Union of a picture's boxes of some classes, or of no named class, bool [side, side]; None if all are of others.

    Without any box the truth is empty: somebody looked, and nothing is left. A box covers the pixels
    from int(side x0) to int(side x1) - 1, and so downwards (spec of VGG-SS's evaluation). It is cut at the picture's
    edges; of one outside or inside-out nothing is left.
    """
    own = [box for box in boxes if box["class_id"] is None or box["class_id"] in class_ids]
    if boxes and not own:
        return None
    truth = np.zeros((side, side), bool)
    for box in own:
        x0, y0, x1, y1 = (int(side * min(max(box[corner], 0), 1)) for corner in ("x0", "y0", "x1", "y1"))
        truth[y0:y1, x0:x1] = True
    return truth


def truth_of_mask(png: bytes, side: int) -> np.ndarray:
    """A mask, resized by its nearest pixels, bool [side, side]. Raises UndecodableError."""
    return np.asarray(_decoded(png, "L").resize((side, side), Image.Resampling.NEAREST)) > 127


def _decoded(data: bytes, mode: str) -> Image.Image:
    try:
        with Image.open(io.BytesIO(data), formats=["JPEG", "PNG"]) as picture:
            return picture.convert(mode)
    except _PICTURE_ERRORS as error:
        # Pillow's own words for what it does not know hold an address, other ones each time.
        reason = "no known format" if isinstance(error, UnidentifiedImageError) else str(error)
        raise UndecodableError(f"cannot be decoded: {reason}") from error
