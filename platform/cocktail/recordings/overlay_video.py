"""A video with maps over it, a colour a class, its sound kept.

Shape letters: N sources, H and W height and width of a map.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.audio.resampler import AudioResampler
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from PIL import Image, ImageDraw, ImageFont

from cocktail.media.bad_clips import BadClip
from cocktail.media.clips import moving_pictures, open_media, reading_media
from cocktail.media.frames import prepare_video, upright
from cocktail.recordings.localizing import Look
from cocktail.recordings.written_file import WrittenFile
from cocktail.text.printable import on_one_line

COLOURS = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (213, 94, 0), (204, 121, 167), (0, 114, 178))
"""A colour a source, told apart by all eyes (Okabe and Ito); after the last the first comes again."""
MOST_HEIGHT = 540
"""Pixels; larger pictures are shrunk."""
STRONGEST = 0.75
"""Opacity of a map's highest value; its lower half is not drawn."""
_COPIED = ("aac", "mp3", "ac3", "eac3", "alac")
"""Sound that an MP4 holds as it is."""
_MOST_RATE = 60
_BIT_RATE = 128_000


def overlaid(picture: Image.Image, maps: np.ndarray, active: np.ndarray, names: Sequence[str]) -> Image.Image:
    """A picture with maps [N, H, W] over it, each in its source's colour from half of its own range up, and the names
    of the sources that sound, bool [N]."""
    pixels = np.asarray(picture.convert("RGB"), np.float32)
    sounding = np.flatnonzero(active).tolist()
    for n in sounding:
        opacity = _resized(_above_half(maps[n]), picture.size)[..., None] * STRONGEST
        pixels = pixels * (1 - opacity) + np.array(COLOURS[n % len(COLOURS)], np.float32) * opacity
    image = Image.fromarray(np.rint(pixels).clip(0, 255).astype(np.uint8))
    _write_names(image, [(names[n], COLOURS[n % len(COLOURS)]) for n in sounding])
    return image


def _above_half(values: np.ndarray) -> np.ndarray:
    """A map from 0 where it is at half of its own range, or lower, to 1 at its highest."""
    low, high = float(values.min()), float(values.max())
    if high <= low:
        return np.zeros_like(values)
    return np.clip(2 * (values - low) / (high - low) - 1, 0, 1)


def _resized(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    image = Image.fromarray(values.astype(np.float32))
    return np.asarray(image.resize(size, Image.Resampling.BILINEAR))


def _write_names(image: Image.Image, names: Sequence[tuple[str, tuple[int, int, int]]]) -> None:
    draw = ImageDraw.Draw(image)
    size = max(image.height // 22, 13)
    edge = max(size // 12, 1)  # a wider one closes the gaps between small words
    font = ImageFont.load_default(size)
    for place, (name, colour) in enumerate(names):
        corner = (size // 2, size // 3 + place * round(1.4 * size))
        draw.text(corner, on_one_line(name, 60), fill=colour, font=font, stroke_width=edge, stroke_fill=(0, 0, 0))


def shrunk_size(width: int, height: int) -> tuple[int, int]:
    """Width and height that fit into MOST_HEIGHT, both even, as encoders want them."""
    scale = min(1.0, MOST_HEIGHT / height)
    return max(2 * round(width * scale / 2), 2), max(2 * round(height * scale / 2), 2)


class _Between:
    """The maps at any time, in order: between two looks they go over from one to the other."""

    def __init__(self, looked: Iterator[Look], on_look: Callable[[Look], None]) -> None:
        self._looked, self._on_look = looked, on_look
        self._before = self._after = self._next()

    def _next(self) -> Look | None:
        look = next(self._looked, None)
        if look is not None:
            self._on_look(look)
        return look

    def at(self, seconds: float) -> tuple[np.ndarray, np.ndarray]:
        """Maps [N, H, W] and which sources sound, bool [N]."""
        while self._after is not None and self._after.seconds <= seconds:
            self._before, self._after = self._after, self._next()
        before, after = self._before, self._after
        assert before is not None
        if after is None or after is before:
            return before.maps, before.active
        share = (seconds - before.seconds) / (after.seconds - before.seconds)
        share = min(max(share, 0.0), 1.0)
        maps = (1 - share) * before.maps + share * after.maps
        return maps, (before if share < 0.5 else after).active

    def finish(self) -> None:
        """Take the looks that no frame needed."""
        while self._after is not None:
            self._before, self._after = self._after, self._next()


def write_video(
    source: Path, target: Path, looked: Iterator[Look], names: Sequence[str], on_look: Callable[[Look], None]
) -> None:
    """Write a video, MP4, with maps over its pictures. `on_look` gets each look as it is taken.

    Raises BadClip for what is wrong with the source, and UsageError where the target cannot be written.
    """
    maps = _Between(looked, on_look)
    with reading_media(source) as (file, head), open_media(file, head) as container:
        video = next(iter(moving_pictures(container)), None)
        if video is None:
            raise BadClip("no video track", "there is nothing to draw on")
        prepare_video(video)
        written = WrittenFile(target)
        try:
            with av.open(written, "w", format="mp4") as made:
                _copy(container, video, made, maps, names, written)
        finally:
            written.close()
        written.require_written()
    maps.finish()


def _copy(
    container: InputContainer,
    video: Any,
    made: OutputContainer,
    maps: _Between,
    names: Sequence[str],
    written: WrittenFile,
) -> None:
    audio = container.streams.audio[0]
    sound = _Sound(made, audio)
    rate = min(video.average_rate or Fraction(25), Fraction(_MOST_RATE))
    drawn: Any = None
    waiting: deque[Packet[Any]] = deque()
    start_seconds: float | None = None
    last_pts = -1
    aspect = float(video.sample_aspect_ratio or 1)
    for packet in container.demux(video, audio):
        written.require_written()
        if packet.stream_index == audio.index:
            if start_seconds is None and packet.pts is not None:
                start_seconds = float(packet.pts * (packet.time_base or 0))
            waiting.append(packet)  # a container has all of its tracks before anything is in it
            while drawn is not None and waiting:
                sound.add(waiting.popleft())
            continue
        for frame in packet.decode():
            if not isinstance(frame, VideoFrame) or frame.time is None:
                continue
            image = upright(frame, aspect)
            if drawn is None:
                drawn = made.add_stream("libx264", rate=rate)
                drawn.width, drawn.height = shrunk_size(*image.size)
                drawn.pix_fmt, drawn.options = "yuv420p", {"preset": "veryfast", "crf": "23"}
                drawn.codec_context.time_base = Fraction(1, 90_000)
            pts = round(frame.time * 90_000)
            if pts <= last_pts:
                continue
            last_pts = pts
            image = image.resize((drawn.width, drawn.height), Image.Resampling.BILINEAR)
            image = overlaid(image, *maps.at(frame.time - (start_seconds or 0.0)), names)
            made_frame = VideoFrame.from_image(image)
            made_frame.pts, made_frame.time_base = pts, Fraction(1, 90_000)
            made.mux(drawn.encode(made_frame))
    if drawn is None:
        raise BadClip("decode error", "no picture could be decoded")
    while waiting:
        sound.add(waiting.popleft())
    made.mux(drawn.encode(None))
    sound.finish()


class _Sound:
    """The sound of a video: its own packets where an MP4 can hold them, else made anew."""

    def __init__(self, made: OutputContainer, audio: Any) -> None:
        self._made = made
        self._is_copied = audio.codec_context.name in _COPIED
        if self._is_copied:
            self._stream: Any = made.add_stream_from_template(audio)
        else:
            rate = audio.codec_context.sample_rate
            self._stream = made.add_stream("aac", rate=rate if rate <= 48_000 else 48_000)
            self._stream.bit_rate = _BIT_RATE
            layout = "mono" if audio.codec_context.channels == 1 else "stereo"
            self._stream.layout = layout
            self._resampler = AudioResampler(format="fltp", layout=layout, rate=self._stream.rate)

    def add(self, packet: Any) -> None:
        if self._is_copied:
            if packet.dts is not None:
                packet.stream = self._stream
                self._made.mux(packet)
            return
        for frame in packet.decode():
            self._encode(self._resampler.resample(frame))

    def finish(self) -> None:
        if not self._is_copied:
            self._encode(self._resampler.resample(None))
            self._made.mux(self._stream.encode(None))

    def _encode(self, frames: list[Any]) -> None:
        for frame in frames:
            self._made.mux(self._stream.encode(frame))
