"""Pictures are stored upright, as they were released if nothing has to be done to them."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from cocktail.media.bad_clips import BadClip
from cocktail.media.pictures import decode_picture

UPRIGHT = np.array([[10, 80, 150], [220, 115, 45]], np.uint8).repeat(32, 0).repeat(32, 1)
"""Six fields of different brightness, two above each other: no turn or mirroring looks like another."""

# By EXIF's definition: where the first row and the first column of the stored picture belong in the upright one.
AS_STORED = {
    1: UPRIGHT,  # top, left
    2: UPRIGHT[:, ::-1],  # top, right
    3: UPRIGHT[::-1, ::-1],  # bottom, right
    4: UPRIGHT[::-1],  # bottom, left
    5: UPRIGHT.T,  # left, top
    6: UPRIGHT.T[::-1],  # right, top
    7: UPRIGHT.T[::-1, ::-1],  # right, bottom
    8: UPRIGHT.T[:, ::-1],  # left, bottom
}


def read_picture(path, short_side):
    return decode_picture(Path(path).read_bytes(), Path(path).name, short_side)


def write_picture(path, orientation, pixels, exif=None):
    exif = Image.Exif() if exif is None else exif
    if orientation is not None:
        exif[ExifTags.Base.Orientation] = orientation
    Image.fromarray(np.ascontiguousarray(pixels)).convert("RGB").save(path, quality=95, exif=exif)
    return str(path)


def shown(jpeg):
    """uint8 [H, W], as seen by a reader that knows nothing of EXIF."""
    image = Image.open(io.BytesIO(jpeg))
    assert image.format == "JPEG"
    assert image.getexif().get(ExifTags.Base.Orientation, 1) == 1  # else others would turn it again
    return np.asarray(image.convert("L"))


@pytest.mark.parametrize("short_side", [64, 32])
@pytest.mark.parametrize("ending", ["jpg", "png"])
@pytest.mark.parametrize("orientation", AS_STORED)
def test_a_picture_is_turned_as_its_exif_says_whether_or_not_it_is_shrunk(tmp_path, orientation, ending, short_side):
    path = write_picture(tmp_path / f"a.{ending}", orientation, AS_STORED[orientation])
    pixels = shown(read_picture(path, short_side)).astype(int)
    expected = UPRIGHT[:: 64 // short_side, :: 64 // short_side]
    assert pixels.shape == expected.shape
    middles = np.s_[short_side // 4 :: short_side // 2, short_side // 4 :: short_side // 2]
    assert np.abs(pixels[middles] - expected[middles]).max() < 8


@pytest.mark.parametrize("orientation", [None, 1, 0, 9])
def test_a_jpeg_that_needs_no_turn_and_no_shrinking_is_stored_byte_for_byte(tmp_path, orientation):
    path = write_picture(tmp_path / "a.jpg", orientation, UPRIGHT)
    assert read_picture(path, 64) == (tmp_path / "a.jpg").read_bytes()


def test_a_picture_whose_exif_is_wrong_elsewhere_is_turned_all_the_same(tmp_path):
    path = tmp_path / "a.jpg"
    exif = Image.Exif()
    exif[ExifTags.Base.XResolution] = 72.0
    write_picture(path, 6, AS_STORED[6], exif)
    data = path.read_bytes()
    number = ExifTags.Base.XResolution.to_bytes(2, "big") + b"\x00\x05"  # the type: a fraction
    assert data.count(number) == 1
    path.write_bytes(data.replace(number, ExifTags.Base.Make.to_bytes(2, "big") + b"\x00\x05"))
    assert shown(read_picture(str(path), 64)).shape == (64, 96)


@pytest.mark.parametrize("content", [b"", b"<html>", b"\xff\xd8\xff\xe0"])
def test_what_is_no_picture_is_a_bad_clip(tmp_path, content):
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(BadClip, match="bad picture"):
        read_picture(str(tmp_path / "a.jpg"), 64)


def test_a_jpeg_that_is_slow_to_decode_or_far_too_long_is_encoded_anew(tmp_path):
    Image.fromarray(UPRIGHT).convert("RGB").save(tmp_path / "a.jpg", progressive=True)
    stored = read_picture(tmp_path / "a.jpg", 64)
    assert "progressive" in Image.open(tmp_path / "a.jpg").info
    assert "progressive" not in Image.open(io.BytesIO(stored)).info
    assert np.abs(shown(stored).astype(int) - UPRIGHT).max() < 12
    write_picture(tmp_path / "b.jpg", None, UPRIGHT)
    with (tmp_path / "b.jpg").open("ab") as file:
        file.write(bytes(1 << 20))
    assert len(read_picture(tmp_path / "b.jpg", 64)) < 10_000


def test_a_jpeg_of_very_many_scans_is_not_decoded(tmp_path, monkeypatch):
    Image.fromarray(UPRIGHT).convert("RGB").save(tmp_path / "a.jpg", progressive=True)
    monkeypatch.setattr("cocktail.media.pictures.MAX_SCANNED_PIXELS", 9 * UPRIGHT.size)
    with pytest.raises(BadClip, match=r"too costly: a.jpg: 10 scans of 96x64 pixels"):
        read_picture(tmp_path / "a.jpg", 64)


@pytest.mark.parametrize("content", [b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", b"GIF89a", b"II*\0"])
def test_formats_that_are_not_on_the_list_are_not_opened(tmp_path, content, monkeypatch):
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", None)
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(BadClip, match=r"bad picture: a\.jpg: no known picture format"):
        read_picture(tmp_path / "a.jpg", 64)


def test_grey_of_16_bits_is_not_cut_off_at_255(tmp_path):
    Image.fromarray(UPRIGHT.astype(np.uint16) * 257).save(tmp_path / "a.png")
    assert Image.open(tmp_path / "a.png").mode == "I;16"
    assert np.abs(shown(read_picture(tmp_path / "a.png", 64)).astype(int) - UPRIGHT).max() < 12
