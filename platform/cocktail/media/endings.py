"""Whether a media file ends before its end, by what containers say of their own bytes.

Lengths in seconds are often guesses, or those of a longer file that this one was cut out of. What a container says
of its bytes (boxes, chunks, pages) is written by whoever wrote these bytes, so a file that lacks some was cut short.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import IO

_STREAMED_RIFF_BYTES = 0x7FFF0000
"""Length in a RIFF header from which on it means that its writer did not know it."""
_SLACK_BYTES = 9
"""Some writers count the eight bytes of a chunk's own header, and one of padding, that others do not."""

_MP4_BOXES = (b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"free", b"skip", b"wide", b"sidx", b"uuid", b"mfra")
_MOST_BOXES = 20_000
_LARGEST_OGG_PAGE = 27 + 255 + 255 * 255
_MP3_LENGTH_TAGS = (b"Xing", b"Info", b"VBRI")
_MP3_HEAD_BYTES = 4096
"""Frames are shorter than this, and the tag lies in the first one."""


def find_missing_end(file: IO[bytes]) -> str | None:
    """What is missing at the end of a file, in words; None if nothing is, or if its container does not tell.

    The file is open for reading in binary and its position is moved.
    """
    size = file.seek(0, os.SEEK_END)
    head = _read_at(file, 0, 16)
    if head.startswith((b"RIFF", b"FORM")):
        declared = 8 + int.from_bytes(head[4:8], "little" if head.startswith(b"RIFF") else "big")
        is_known = declared < _STREAMED_RIFF_BYTES
        return _missing(size, declared) if is_known and declared > size + _SLACK_BYTES else None
    readers: dict[bool, Callable[[IO[bytes], int], int | None]] = {
        head[4:8] in _MP4_BOXES: _end_of_boxes,
        head.startswith(b"\x1aE\xdf\xa3"): _end_of_segment,
        head.startswith(b"OggS"): _end_of_pages,
    }
    end = readers[True](file, size) if True in readers else None
    return _missing(size, end) if end is not None and end > size else None


def _missing(size: int, declared: int) -> str:
    return f"{size} of {declared} bytes are there"


def _read_at(file: IO[bytes], offset: int, num_bytes: int) -> bytes:
    file.seek(offset)
    return file.read(num_bytes)


def _end_of_boxes(file: IO[bytes], size: int) -> int | None:
    """End of the last of an MP4's boxes (ISO/IEC 14496-12, 4.2). What follows them and is no box is passed over."""
    end = 0
    for _ in range(_MOST_BOXES):
        head = _read_at(file, end, 16)
        if len(head) < 8 or head[4:8] not in _MP4_BOXES:
            return end
        length = int.from_bytes(head[:4], "big")
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        if length < 8:  # 0: up to the end of the file, however much that is
            return None
        end += length
        if end > size:
            return end
    return None


def _end_of_segment(file: IO[bytes], size: int) -> int | None:
    """End of a Matroska file's first segment; None if its writer did not know it (RFC 8794, 6)."""
    header_bytes, length_bytes = _read_length(file, 4)
    if header_bytes is None:
        return None
    start = 4 + length_bytes + header_bytes
    if _read_at(file, start, 4) != b"\x18\x53\x80\x67":
        return None
    segment_bytes, length_bytes = _read_length(file, start + 4)
    return None if segment_bytes is None else start + 4 + length_bytes + segment_bytes


def _read_length(file: IO[bytes], offset: int) -> tuple[int | None, int]:
    """A length as EBML writes it (None: unknown), and how many bytes that takes."""
    head = _read_at(file, offset, 8)
    if not head or not head[0]:
        return None, 0
    num_bytes = 9 - head[0].bit_length()
    ones = (1 << 7 * num_bytes) - 1
    length = int.from_bytes(head[:num_bytes], "big") & ones
    return (None if length == ones else length), num_bytes


def _end_of_pages(file: IO[bytes], size: int) -> int | None:
    """End of the last page of an Ogg file that has begun (RFC 3533, 6)."""
    offset = max(0, size - _LARGEST_OGG_PAGE)
    tail = _read_at(file, offset, _LARGEST_OGG_PAGE)
    start = tail.rfind(b"OggS\0")
    if start < 0:
        return None
    if len(tail) < start + 27 or len(tail) < start + 27 + tail[start + 26]:
        return size + 1
    lengths = tail[start + 27 : start + 27 + tail[start + 26]]
    return offset + start + 27 + len(lengths) + sum(lengths)


def tells_its_length(file: IO[bytes], container: str) -> bool:
    """Whether the length that FFmpeg gives for a container is one that its writer counted, and no guess.

    Of MP3 and AAC streams it is a guess from the bit rate, unless a tag in the first frame has the number of
    frames; MPEG's streams have none at all, and FLAC may leave it open.
    """
    if container == "mp3":
        start = 0
        head = _read_at(file, 0, 10)
        if head.startswith(b"ID3") and len(head) == 10:
            start = 10 + sum((byte & 127) << 7 * (3 - place) for place, byte in enumerate(head[6:]))
        first_frame = _read_at(file, start, _MP3_HEAD_BYTES)
        return any(tag in first_frame for tag in _MP3_LENGTH_TAGS)
    if container == "flac":
        head = _read_at(file, 0, 26)
        return head.startswith(b"fLaC") and int.from_bytes(head[21:26], "big") & 0xFFFFFFFFF > 0
    return container not in ("aac", "mpegts", "mpeg")
