"""The pictures of a video that are on the screen at given times, as a player shows them."""

from __future__ import annotations

import bisect
import itertools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from PIL import Image

from cocktail.media.bad_clips import BadClip
from cocktail.media.pictures import MAX_SIDE, require_size

MOVING_SECONDS = 0.101
"""Where pictures follow each other at least this fast, the nearest in time is meant; else the one that is shown."""

_SAME_SECONDS = 1e-6
_SKIPPING_CODECS = ("h264", "hevc")
"""Codecs whose decoder looks at each packet anew whether to skip it: others may skip one that is wanted."""

_TURNS: dict[Image.Transpose | None, tuple[int, int, int, int]] = {
    None: (1, 0, 0, 1),
    Image.Transpose.FLIP_LEFT_RIGHT: (-1, 0, 0, 1),
    Image.Transpose.FLIP_TOP_BOTTOM: (1, 0, 0, -1),
    Image.Transpose.ROTATE_180: (-1, 0, 0, -1),
    Image.Transpose.ROTATE_90: (0, -1, 1, 0),
    Image.Transpose.ROTATE_270: (0, 1, -1, 0),
    Image.Transpose.TRANSPOSE: (0, 1, 1, 0),
    Image.Transpose.TRANSVERSE: (0, -1, -1, 0),
}
"""The linear part (a, b, c, d) of a display matrix: (x, y) is shown at (a x + c y, b x + d y), y downwards."""


def prepare_video(video: VideoStream) -> None:
    """Bound the size of what is going to be decoded. Raises BadClip for what declares more."""
    require_size(video.width, video.height)
    video.codec_context.thread_count = 1
    video.codec_context.options = {"max_pixels": str(MAX_SIDE**2)}  # for sizes that change on the way


@dataclass
class VideoPackets:
    """What a first pass over a file saw of its video: enough to know where to begin, and what to show."""

    times: list[int] = field(default_factory=list)
    """When each packet that is to be shown is shown, in the track's own units."""
    keyframes: list[int] = field(default_factory=list)
    """Times of packets at which a decoder can start."""
    by_decoding: bool = False
    """Whether the container says only when each is decoded (AVI): that stands for when it is shown."""
    is_complete: bool = True
    """Whether each packet says when it is shown; where one doesn't, the time of its decoding stands for it."""

    def note(self, packet: Packet[Any]) -> None:
        """Note a packet, in the order of the file."""
        ticks = _ticks(packet, self.by_decoding)
        if ticks is None:
            return
        self.is_complete &= packet.pts is not None
        if packet.is_keyframe:
            self.keyframes.append(ticks)
        if not packet.is_discard:
            self.times.append(ticks)


def shown_at(times_seconds: Sequence[float], seconds: float) -> int:
    """Which of some pictures, by their sorted times, is meant by a time.

    The last one shown before it, or, of a moving picture, the nearest one; the first one if the time is before all.
    """
    after = bisect.bisect_right(times_seconds, seconds + _SAME_SECONDS)
    before = max(after - 1, 0)
    if after in (0, len(times_seconds)) or times_seconds[after] - times_seconds[before] > MOVING_SECONDS:
        return before
    return after if times_seconds[after] - seconds < seconds - times_seconds[before] - _SAME_SECONDS else before


def frames_at(
    container: InputContainer,
    video: VideoStream,
    open_again: Callable[[], InputContainer],
    packets: VideoPackets,
    targets_seconds: Sequence[float],
) -> Iterator[tuple[VideoFrame, float]]:
    """The frame that is meant by each of some rising times, and when it is shown, one after the other.

    Each is decoded from the keyframe before it on, or from where the one before ended if that is nearer. Frames on
    which no other depends are not decoded unless wanted, where that leaves all others as they are. Raises BadClip.
    """
    if not packets.times:
        raise BadClip("decode error", "no picture has a time")
    assert video.time_base is not None
    tick = float(video.time_base)
    times = sorted(packets.times)
    times_seconds = [time * tick for time in times]
    wanted = [times[shown_at(times_seconds, seconds)] for seconds in targets_seconds]
    keyframes = sorted(packets.keyframes)
    decoding = _Decoding(container, video, open_again, packets, frozenset(wanted))
    previous: tuple[VideoFrame, int] | None = None
    following: tuple[VideoFrame, int] | None = None
    for target in wanted:
        if following is None or following[1] < target:
            place = bisect.bisect_right(keyframes, target) - 1
            if packets.by_decoding:  # what is shown when a keyframe is decoded depends on the one before
                place -= 1
            decoding.start_at(keyframes[place] if place >= 0 else None)
        while following is None or following[1] < target:
            previous, following = following or previous, decoding.next_frame()
            if following is None:
                break
        nearest = following or previous
        if nearest is None:
            raise BadClip("decode error", "no picture could be decoded")
        if following and previous and target - previous[1] < following[1] - target:
            nearest = previous
        yield nearest[0], nearest[1] * tick


class _Decoding:
    """Frames of a video in the order they are shown, from one of its keyframes on, and then from a later one."""

    def __init__(
        self,
        container: InputContainer,
        video: VideoStream,
        open_again: Callable[[], InputContainer],
        packets: VideoPackets,
        wanted: frozenset[int],
    ) -> None:
        self._open = lambda keyframe: _packets_from(container, video, open_again, packets, keyframe)
        self._by_decoding = packets.by_decoding
        is_timed = packets.is_complete and not packets.by_decoding
        self._skips = is_timed and video.codec_context.name in _SKIPPING_CODECS
        self._wanted = wanted
        self._packets: Iterator[Packet[Any]] | None = None
        self._keyframes: set[int | None] = set()
        """Keyframes that the decoder was given, by their times."""
        self._ready: deque[tuple[VideoFrame, int]] = deque()

    def start_at(self, keyframe: int | None) -> None:
        """Leave out what lies before a keyframe, unless it has been decoded on the way. None: begin at the beginning.

        What lies between is read through, as a file that has no index cannot be searched.
        """
        if self._packets is None:
            self._packets = self._open(keyframe)
        elif keyframe is not None and keyframe not in self._keyframes:
            self._ready.clear()
            for packet in self._packets:
                if packet.is_keyframe and _ticks(packet, self._by_decoding) == keyframe:
                    packet.stream.codec_context.flush_buffers()
                    self._packets = itertools.chain([packet], self._packets)
                    return
            self._packets = self._open(keyframe)

    def next_frame(self) -> tuple[VideoFrame, int] | None:
        """The next frame and its time, in the track's own units; None behind the last."""
        assert self._packets is not None
        while not self._ready:
            packet = next(self._packets, None)
            if packet is None:
                return None
            if packet.is_keyframe:
                self._keyframes.add(_ticks(packet, self._by_decoding))
            if self._skips:
                packet.stream.codec_context.skip_frame = "DEFAULT" if packet.pts in self._wanted else "NONREF"
            timed = ((frame, _ticks(frame, self._by_decoding)) for frame in _decode(packet))
            self._ready.extend((frame, ticks) for frame, ticks in timed if ticks is not None)
        return self._ready.popleft()


def _decode(packet: Packet[Any]) -> list[VideoFrame]:
    return packet.decode()


def _ticks(timed: Packet[Any] | VideoFrame, by_decoding: bool) -> int | None:
    return timed.dts if by_decoding or timed.pts is None else timed.pts


def _packets_from(
    container: InputContainer,
    video: VideoStream,
    open_again: Callable[[], InputContainer],
    packets: VideoPackets,
    keyframe: int | None,
) -> Iterator[Packet[Any]]:
    """Packets of a video from a keyframe on, by its time; all of them if it is None.

    Some containers have no index and end a search anywhere. Then the file is read from its beginning.
    """
    if keyframe is not None:
        container.seek(keyframe, stream=video)
        is_found = False
        for packet in container.demux(video):
            ticks = _ticks(packet, packets.by_decoding)
            is_found |= packet.is_keyframe and ticks == keyframe
            if is_found:
                yield packet
            elif ticks is None or (packet.is_keyframe and ticks > keyframe):
                break
        if is_found:
            return
    place = container.streams.video.index(video)
    container = open_again()
    video = container.streams.video[place]
    prepare_video(video)
    is_found = keyframe is None
    for packet in container.demux(video):
        is_found |= packet.is_keyframe and _ticks(packet, packets.by_decoding) == keyframe
        if is_found:
            yield packet


def upright(frame: VideoFrame, pixel_aspect: float) -> Image.Image:
    """A frame as a player shows it: pixels square, turned and mirrored as the file says.

    `pixel_aspect` is a pixel's width by its height; the longer one is shrunk. Raises BadClip for a frame that is too
    large.
    """
    require_size(frame.width, frame.height)
    image = frame.to_image(threads=1)  # or each frame has a thread a core, until it is collected
    if pixel_aspect != 1:
        width, height = image.width * min(1, pixel_aspect), image.height / max(1, pixel_aspect)
        image = image.resize((max(1, round(width)), max(1, round(height))), Image.Resampling.BICUBIC)
    turn = _turn(frame)
    return image if turn is None else image.transpose(turn)


def _turn(frame: VideoFrame) -> Image.Transpose | None:
    """The turn by right angles and the mirroring that come nearest to a frame's display matrix."""
    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return None
    a, b, _, c, d = np.frombuffer(bytes(data), np.int32, 5).astype(float)  # of 3 x 3, by rows: a b u, c d v, x y w
    return max(_TURNS, key=lambda turn: float(np.dot((a, b, c, d), _TURNS[turn])))
