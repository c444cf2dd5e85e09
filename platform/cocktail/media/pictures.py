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

JPEG_QUALITY = 90
MAX_SIDE = 8192
"""Pixels. What declares more is not decoded."""

FORMATS = ("JPEG", "PNG", "WEBP", "BMP")
"""Picture files that are opened, by what is in them: none of these makes Pillow start another program."""
MAX_SCANNED_PIXELS = 1_000_000_000
"""Pixels times scans of a JPEG: a decoder goes over all pixels once a scan, and one takes few bytes."""

_MOST_SCANS = 4
"""Of a baseline JPEG, one a colour channel; progressive ones have more and are slow to decode."""
_MOST_BYTES_PER_PIXEL = 4
_HEADERS_BYTES = 1 << 16
_START_OF_SCAN = b"\xff\xda"

_UPRIGHT = 1
_TURNS = range(2, 9)
"""EXIF's orientations that turn or mirror."""


def require_size(width: int, height: int) -> None:
    """Raise BadClip for a picture that is too large to be decoded."""
    if max(width, height) > MAX_SIDE:
        raise BadClip("picture too large", f"{width}x{height}, at most {MAX_SIDE} a side are taken")


def decode_picture(data: bytes, name: str, short_side: int) -> bytes:
    """A picture file as it is to be stored: the file itself if it is an upright JPEG of that size or less.

    A JPEG that is slow to decode, or of far more bytes than its pixels need, is encoded anew: it is read in every
    epoch. `name` is for words. Raises BadClip for one that is too large by its own header, or cannot be decoded.
    """
    try:
        with warnings.catch_warnings(), Image.open(io.BytesIO(data), formats=FORMATS) as image:
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own bound is below
            require_size(*image.size)
            num_pixels = image.width * image.height
            num_scans = data.count(_START_OF_SCAN)  # or more: in a JPEG, what is no scan may hold these bytes, too
            if image.format in ("JPEG", "MPO") and num_pixels * num_scans > MAX_SCANNED_PIXELS:
                raise BadClip("too costly", f"{name}: {num_scans} scans of {image.width}x{image.height} pixels")
            image.load()
            turn = image.getexif().get(ExifTags.Base.Orientation, _UPRIGHT)
            if turn in _TURNS:
                return to_jpeg(_turned(_eight_bits(image), turn), short_side)
            is_quick = num_scans <= _MOST_SCANS and len(data) <= _MOST_BYTES_PER_PIXEL * num_pixels + _HEADERS_BYTES
            if image.format == "JPEG" and image.mode in ("RGB", "L") and min(image.size) <= short_side and is_quick:
                return data
            return to_jpeg(_eight_bits(image), short_side)
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, ValueError) as error:
        if isinstance(error, BadClip):
            raise
        raise BadClip("bad picture", f"{name}: {_in_words(error)}") from error


def _eight_bits(image: Image.Image) -> Image.Image:
    """A picture of three channels of 8 bits. Raises BadClip for grey values whose scale is not known."""
    if image.mode.startswith("I;16"):  # Pillow would cut off what is above 255
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise BadClip("bad picture", f"grey values of {image.mode} have no known white")
    return image.convert("RGB")


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
