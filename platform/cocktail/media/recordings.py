"""Media files of any length, decoded block by block: none is ever whole in memory. Rate and channels stay theirs.

Shape letters: C channels, T samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.error import FFmpegError
from PIL import Image

from cocktail.media.bad_clips import BadClip
from cocktail.media.clips import (
    in_words,
    moving_pictures,
    open_media,
    promised_seconds,
    reading_media,
    require_reached,
)
from cocktail.media.frames import VideoPackets, frames_at, prepare_video, upright
from cocktail.media.recording import BLOCK_SAMPLES, require_finite
from cocktail.media.sounds import MAX_CHANNELS, SAMPLE_RATES_HZ

_FAILED_SECONDS = 0.5
"""Sound that may fail to decode, as where a longer recording was cut; and the longest gap on the way."""


class FileRecording:
    """A media file on the local filesystem. Raises BadClip for what is wrong with it, UsageError for the system."""

    def __init__(self, path: str | Path, name: str | None = None) -> None:
        self.path = Path(path).absolute()
        self.name = name or self.path.name
        with self._opened() as (_, _, container, audio):
            codec = audio.codec_context
            self.sample_rate_hz, self.num_channels = codec.sample_rate, codec.channels
            self.has_pictures = bool(moving_pictures(container))
            ticks, tick = audio.duration, audio.time_base
            of_track = float(ticks * tick) if ticks is not None and tick is not None else None
            self.declared_seconds = of_track or ((container.duration or 0) / 1e6 or None)
        _require_taken(self.sample_rate_hz, self.num_channels)
        self._start_seconds = 0.0
        """When the first sample is played, known once it has been decoded."""

    @contextmanager
    def _opened(self) -> Iterator[tuple[IO[bytes], bytes, InputContainer, AudioStream]]:
        with reading_media(self.path) as (file, head), open_media(file, head) as container:
            tracks = ", ".join(stream.type for stream in container.streams) or "none"
            if not container.streams.audio:
                raise BadClip("no audio track", f"tracks: {tracks}")
            audio = container.streams.audio[0]
            if audio.codec_context is None:
                raise BadClip("decode error", "no decoder for the audio track")
            yield file, head, container, audio

    def blocks(self) -> Iterator[np.ndarray]:
        with self._opened() as (file, _, container, audio):
            promised = promised_seconds(file, container, audio)
            waiting: list[np.ndarray] = []
            start, num_waiting = 0, 0
            for samples in self._decoded(container, audio, promised):
                waiting.append(samples)
                num_waiting += samples.shape[1]
                if num_waiting >= BLOCK_SAMPLES:
                    block = np.concatenate(waiting, axis=1)
                    require_finite(block, start, self.sample_rate_hz)
                    yield block
                    start, num_waiting, waiting = start + num_waiting, 0, []
            if not start + num_waiting:
                raise BadClip("too short", "no sound could be decoded")
            if waiting:
                block = np.concatenate(waiting, axis=1)
                require_finite(block, start, self.sample_rate_hz)
                yield block

    def _decoded(
        self, container: InputContainer, audio: AudioStream, promised_seconds: float | None
    ) -> Iterator[np.ndarray]:
        """Samples of each frame. A packet that fails to decode is left out; more of them than half a second are not.

        Raises BadClip, too, after the last, where less is there than the file has to hold.
        """
        failed_seconds, expected_seconds, first = 0.0, 0.0, True
        last_seconds, has_failed_last = 0.0, False
        timed = {stream.index for stream in (*container.streams.audio, *moving_pictures(container))}
        for packet in container.demux():  # all: the length may be that of a longer track
            # The empty ones at the end, with which decoders give what they hold back, know their track only so.
            track = packet.stream_index if packet.size else packet.stream.index
            if track in timed and packet.pts is not None:
                last_seconds = max(last_seconds, float((packet.pts + (packet.duration or 0)) * (packet.time_base or 0)))
            if track != audio.index:
                continue
            try:
                frames = packet.decode()
            except MemoryError:
                raise
            except FFmpegError as error:
                has_failed_last = True
                failed_seconds += float((packet.duration or 0) * (packet.time_base or 0)) or _FAILED_SECONDS / 4
                if failed_seconds > _FAILED_SECONDS:
                    raise BadClip("decode error", f"{in_words(error)}, at {expected_seconds:.2f} s") from error
                continue
            for frame in frames:
                assert isinstance(frame, AudioFrame)
                if (frame.sample_rate, frame.layout.nb_channels) != (self.sample_rate_hz, self.num_channels):
                    raise BadClip(
                        "decode error",
                        f"{self.num_channels} channels at {self.sample_rate_hz} Hz become {frame.layout.nb_channels} "
                        f"at {frame.sample_rate} Hz at {expected_seconds:.2f} s",
                    )
                time = expected_seconds if frame.time is None else frame.time
                if first:
                    self._start_seconds, first = time, False
                elif time - expected_seconds > _FAILED_SECONDS:
                    raise BadClip(
                        "decode error",
                        f"{time - expected_seconds:.2f} s of sound are missing at {expected_seconds:.2f} s",
                    )
                expected_seconds, has_failed_last = time + frame.samples / frame.sample_rate, False
                yield to_float(frame)
        # A section of a FLAC file has the whole's length in its header, but each of its packets decodes to the last.
        is_section = container.format.name == "flac" and not has_failed_last
        if promised_seconds is not None and not is_section:
            require_reached(promised_seconds, self._start_seconds, max(expected_seconds, last_seconds))

    def pictures_at(self, seconds: Sequence[float]) -> Iterator[Image.Image]:
        with self._opened() as (file, head, container, audio):
            video = next(iter(moving_pictures(container)), None)
            if video is None:
                raise BadClip("no video track", f"{self.name} is a sound alone")
            prepare_video(video)
            packets, start_seconds = VideoPackets(by_decoding=container.format.name == "avi"), None
            for packet in container.demux(video, audio):
                if packet.stream_index == video.index and packet.size:
                    packets.note(packet)
                elif start_seconds is None and packet.pts is not None and packet.size:
                    start_seconds = float(packet.pts * (packet.time_base or 0))
            targets = [(start_seconds or 0.0) + second for second in seconds]
            aspect = float(video.sample_aspect_ratio or 1)
            for frame, _ in frames_at(container, video, lambda: open_media(file, head), packets, targets):
                yield upright(frame, aspect)


def to_float(frame: AudioFrame) -> np.ndarray:
    """Samples float32 [C, T] of a decoded frame, full scale 1: exactly those of the file, up to 24 bits."""
    samples = frame.to_ndarray()
    if not frame.format.name.endswith("p"):  # packed: channels are interleaved
        samples = samples.reshape(-1, frame.layout.nb_channels).T
    if samples.dtype == np.uint8:
        return (samples.astype(np.float32) - 128) / 128
    if samples.dtype.kind != "f":  # a power of two changes no digit
        return samples.astype(np.float32) * np.float32(2.0 ** (1 - 8 * samples.dtype.itemsize))
    return samples.astype(np.float32, copy=False)


def _require_taken(sample_rate_hz: int, num_channels: int) -> None:
    low, high = SAMPLE_RATES_HZ
    if not low <= sample_rate_hz <= high:
        raise BadClip("sample rate out of range", f"{sample_rate_hz} Hz, {low} to {high} Hz are taken")
    if not 1 <= num_channels <= MAX_CHANNELS:
        raise BadClip("too costly", f"{num_channels} channels, at most {MAX_CHANNELS} are taken")


def decode_whole(path: str | Path, most_values: int) -> tuple[np.ndarray, int] | None:
    """Samples float32 [C, T] and rate of a file of at most so many values; None of one with more. Raises BadClip."""
    recording = FileRecording(path)
    values_a_second = recording.sample_rate_hz * recording.num_channels
    if (recording.declared_seconds or 0) * values_a_second > most_values:
        return None
    blocks, num_samples = [], 0
    for block in recording.blocks():
        blocks.append(block)
        num_samples += block.shape[1]
        if num_samples * recording.num_channels > most_values:
            return None
    return np.concatenate(blocks, axis=1), recording.sample_rate_hz
