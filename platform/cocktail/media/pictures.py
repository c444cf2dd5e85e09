"""Pictures as shards hold them: JPEG, upright, shrunk, never enlarged.

Cameras may store a picture as the sensor saw it and say in its EXIF how to turn it. Not every reader turns it, so
none needs to: boxes and masks are of the upright picture.
"""

from __future__ import annotations

import io
import warnings

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from cocktail.media.bad_clips import BadClip
from cocktail.storage import read_bytes

JPEG_QUALITY = 90
MAX_SIDE = 8192
"""Pixels. What declares more is not decoded."""

_UPRIGHT = 1
_TURNS = range(2, 9)
"""EXIF's orientations that turn or mirror."""


def require_size(width: int, height: int) -> None:
    """Raise BadClip for a picture that is too large to be decoded."""
    if max(width, height) > MAX_SIDE:
        raise BadClip("picture too large", f"{width}x{height}, at most {MAX_SIDE} a side are taken")


def read_picture(location: str, short_side: int) -> bytes:
    """A picture file as it is to be stored: the file itself if it is an upright JPEG of that size or less.

    Raises BadClip for one that is not there, too large by its own header, or cannot be decoded.
    """
    name = location.rsplit("/", 1)[-1]
    try:
        data = read_bytes(location)
    except FileNotFoundError as error:
        raise BadClip("missing file", f"no picture {name}") from error
    try:
        with warnings.catch_warnings(), Image.open(io.BytesIO(data)) as image:
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own bound is below
            require_size(*image.size)
            image.load()
            turn = image.getexif().get(ExifTags.Base.Orientation, _UPRIGHT)
            if turn in _TURNS:
                return to_jpeg(_turned(image.convert("RGB"), turn), short_side)
            if image.format == "JPEG" and image.mode in ("RGB", "L") and min(image.size) <= short_side:
                return data
            return to_jpeg(image.convert("RGB"), short_side)
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, ValueError) as error:
        if isinstance(error, BadClip):
            raise
        raise BadClip("bad picture", f"{name}: {_in_words(error)}") from error


def _turned(image: Image.Image, turn: int) -> Image.Image:
    """An upright picture from one of its own, which is changed, and what EXIF says of it."""
    image.info.clear()  # exif_transpose would write all EXIF anew, and fails where some of it is broken
    image.getexif()[ExifTags.Base.Orientation] = turn
    return ImageOps.exif_transpose(image)


def to_jpeg(image: Image.Image, short_side: int) -> bytes:
    """A picture shrunk to `short_side` pixels, as a JPEG file."""
    scale = short_side / min(image.size)
    if scale < 1:
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        image = image.resize(size, Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()


def encode_mask(mask: np.ndarray) -> bytes:
    """A mask bool [H, W] as a PNG, 255 where it is true."""
    buffer = io.BytesIO()
    Image.fromarray(np.where(mask, 255, 0).astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def _in_words(error: Exception) -> str:
    """Message of an error without addresses of objects: details must be the same every time."""
    return "no known picture format" if isinstance(error, UnidentifiedImageError) else str(error)
