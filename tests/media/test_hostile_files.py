"""Mutations of small valid files, for a minute each: no parser raises, swells or hangs; only BadClip comes out."""

import io
import pickle
import random
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from cocktail.media.bad_clips import BadClip
from cocktail.media.clips import decode_clip
from cocktail.media.decoding_process import DecodingProcess
from cocktail.media.object_masks import decode_mask
from cocktail.media.pictures import decode_picture
from tests.made.corpora.miniature_clips import write_clip
from tests.media.test_containers import remux

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

FUZZ_SECONDS = 60.0
CALL_SECONDS = 5.0
"""Time of a processor for a file of some kilobytes: a hundred times what a good one takes."""
MEMORY_BYTES = 1 << 29


def mutated(data: bytes, numbers: random.Random) -> bytes:
    """A file with some bytes changed, repeated, cut out, or with lengths and counts at their limits."""
    damaged = bytearray(data)
    for _ in range(numbers.choice((1, 1, 2, 4, 16))):
        at = numbers.randrange(len(damaged))
        kind = numbers.randrange(6)
        if kind == 0:
            damaged[at] = numbers.randrange(256)
        elif kind == 1:
            damaged[at] ^= 1 << numbers.randrange(8)
        elif kind == 2:
            limit = numbers.choice((b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x80\0\0\0", b"\0\0\0\1"))
            damaged[at : at + 4] = limit
        elif kind == 3:
            del damaged[at : at + numbers.randrange(1, 64)]
        elif kind == 4:
            piece = damaged[at : at + numbers.randrange(1, 64)]
            damaged[at:at] = piece * numbers.choice((1, 2, 50))
        else:
            del damaged[max(at, 1) :]
        if not damaged:
            return b"\0"
    return bytes(damaged)


def fuzz(
    files: dict[str, bytes], call: Callable[[DecodingProcess, bytes, str], object], seconds: float = FUZZ_SECONDS
) -> dict[str, int]:
    """How often each reason came out of so many seconds of mutations; "good" is one of them."""
    numbers = random.Random(0)
    process = DecodingProcess(max_cpu_seconds=CALL_SECONDS, max_memory_bytes=MEMORY_BYTES, max_wait_seconds=300)
    outcomes: dict[str, int] = {}
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        name = numbers.choice(sorted(files))
        try:
            call(process, mutated(files[name], numbers), name)
            reason = "good"
        except BadClip as bad:
            bad.detail.encode()
            reason = bad.reason
            assert "of a processor" not in bad.detail, name
        outcomes[reason] = outcomes.get(reason, 0) + 1
    process.close()
    return outcomes


def test_masks_for_a_minute():
    letters = np.where(np.add.outer(range(5), range(7)) % 3, 0, 3).astype(np.uint8)
    files = {f"mask.{protocol}": pickle.dumps(letters, protocol) for protocol in range(6)}
    for name, write in (
        ("mask.npy", np.save),
        ("mask.png", lambda file, values: Image.fromarray(values).save(file, "PNG")),
    ):
        buffer = io.BytesIO()
        write(buffer, letters)
        files[name] = buffer.getvalue()
    outcomes = fuzz(files, lambda process, data, name: process.call(decode_mask, data, name))
    assert set(outcomes) <= {"good", "bad mask", "too costly"}
    assert outcomes["bad mask"] > 100


def test_pictures_for_a_minute():
    pixels = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
    files = {}
    for name, options in (
        ("a.jpg", {}),
        ("b.jpg", {"progressive": True}),
        ("a.png", {}),
        ("a.webp", {}),
        ("a.bmp", {}),
    ):
        buffer = io.BytesIO()
        exif = Image.Exif()
        exif[0x0112] = 6
        form = {"jpg": "JPEG"}.get(name[2:], name[2:])
        Image.fromarray(pixels).save(buffer, form, **options, **({} if form == "bmp" else {"exif": exif}))
        files[name] = buffer.getvalue()
    outcomes = fuzz(files, lambda process, data, name: process.call(decode_picture, data, name, 32))
    assert set(outcomes) <= {"good", "bad picture", "picture too large", "too costly"}
    assert outcomes["bad picture"] > 100


def test_media_files_for_a_minute(tmp_path):
    write_clip(tmp_path / "a.mp4", seconds=1.2)
    files = {"a.mp4": (tmp_path / "a.mp4").read_bytes()}
    for form in ("mpegts", "matroska", "flv"):
        remux(tmp_path / "a.mp4", tmp_path / "b", form=form)
        files[form] = Path(tmp_path / "b").read_bytes()

    def call(process: DecodingProcess, data: bytes, name: str) -> object:
        (tmp_path / "c.mp4").write_bytes(data)
        return process.call(decode_clip, tmp_path / "c.mp4", sample_rate_hz=11025, picture_short_side=32)

    outcomes = fuzz(files, call)
    assert len(outcomes) > 3
    assert outcomes["decode error"] + outcomes["truncated"] > 20


@pytest.mark.parametrize("ending", ["wav", "flac", "mp3", "ogg", "aiff"])
def test_sound_files_for_a_quarter_of_a_minute(tmp_path, ending):
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 22050)
    soundfile.write(tmp_path / f"a.{ending}", noise, 11025 if ending != "mp3" else 22050)

    def call(process: DecodingProcess, data: bytes, name: str) -> object:
        (tmp_path / "c").write_bytes(data)
        return process.call(decode_clip, tmp_path / "c", sample_rate_hz=11025, num_frames=0, min_seconds=0.1)

    assert len(fuzz({ending: (tmp_path / f"a.{ending}").read_bytes()}, call, seconds=15.0)) > 1
