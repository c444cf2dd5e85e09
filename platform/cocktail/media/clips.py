"""One clip off a disk: its sound as int16 at one rate, a few of its pictures as JPEG, or the reason why not.

Files come from strangers. Only known containers are opened, nothing but the file itself is read, lengths
and picture sizes are bounded before and while decoding, and whatever is wrong ends as a `BadClip`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import av
import numpy as np
import soxr
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from PIL import Image

from cocktail.media.bad_clips import BadClip
from cocktail.media.pictures import MAX_SIDE, require_size, to_jpeg
from cocktail.types import UsageError

SILENCE_DBFS = -60.0
"""A clip whose loudest sample, as stored, lies below this holds no sound to learn from."""

_MISSING_SECONDS = 0.5
"""Less sound than the header declares, by more than this, is a file cut short. Codec padding stays below."""

_CHUNKS_TO_FOLD = 512

_STREAMED_RIFF_BYTES = 0x7FFF0000
"""Length in a RIFF header from which on it means that its writer did not know it."""

# Playlists and scripts (hls, dash, concat ...) are left out: they make FFmpeg open other files and URLs.
_CONTAINERS = "mov,mp4,m4a,3gp,matroska,webm,avi,flv,asf,mpegts,mpeg,wav,w64,aiff,au,flac,ogg,mp3,aac"
_MAGIC = (b"RIFF", b"\x1aE\xdf\xa3", b"OggS", b"fLaC", b"ID3", b"FLV", b"FORM", b"\x30\x26\xb2\x75")
ANY_TITLE: dict[str, Any] = {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}
"""Argument of `av.open` that lets a title be no UTF-8. From PyAV 19 on it always may, and there is no such argument."""
_MP4_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide")


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A decoded clip."""

    audio: np.ndarray
    """Mean of the channels, int16 [T], full scale 32768."""
    pictures: tuple[bytes, ...]
    """JPEG files, in time order."""
    picture_seconds: tuple[float, ...]
    """Time at which each picture is shown, counted from the first sample of the sound."""
    duration_seconds: float
    source_sha256: str
    """SHA-256 of the whole media file."""
    mask: bytes | None = None
    """A PNG of the first picture, 255 where the sounding object is, else 0."""


def decode_clip(
    path: str | Path,
    *,
    sample_rate_hz: int,
    audio_track: int = 0,
    num_frames: int = 1,
    picture_short_side: int = 256,
    min_seconds: float = 1.0,
    max_seconds: float = 600.0,
    keep_silent: bool = False,
) -> Clip:
    """Decode a media file on the local filesystem, on one core.

    The pictures are the frames nearest to the centres of `num_frames` equal parts of the sound (1: the
    middle), shrunk to `picture_short_side` pixels, never enlarged. Raises BadClip for what is wrong with the file,
    and UsageError if the system fails to read it: that tells nothing about the clip.
    """
    path = Path(path).absolute()
    try:
        with path.open("rb") as file:
            head = file.read(16)
            if not head:
                raise BadClip("empty file", "0 bytes")
            declared_bytes = int.from_bytes(head[4:8], "little") + 8 if head.startswith(b"RIFF") else 0
            if _STREAMED_RIFF_BYTES > declared_bytes > path.stat().st_size + 1:  # FFmpeg takes what is there
                raise BadClip("truncated", f"{path.stat().st_size} of {declared_bytes} bytes are there")
            with _open(file, head) as container:
                audio, video = _choose_tracks(container, audio_track, num_frames, max_seconds)
                sound = _decode_sound(container, audio, video, max_seconds)
                samples = _to_stored(sound, sample_rate_hz, min_seconds, keep_silent)
                targets = [
                    sound.start_seconds + (part + 0.5) / num_frames * sound.duration_seconds
                    for part in range(num_frames)
                ]
                frames = _frames_at(container, video, sound.video_packets, targets) if video else []
                pictures = tuple(to_jpeg(_turned(frame), picture_short_side) for frame in frames)
            file.seek(0)
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except FFmpegError as error:  # some are an OSError, too, and come of the file's content
        raise BadClip("decode error", _in_words(error)) from error
    except FileNotFoundError as error:
        raise BadClip("missing file", f"no file {path.name}") from error
    except OSError as error:
        raise UsageError(f"cannot read {path}: {_in_words(error)}. Mend that, then run again") from error
    return Clip(
        audio=samples,
        pictures=pictures,
        picture_seconds=tuple(round(frame.time - sound.start_seconds, 6) for frame in frames),
        duration_seconds=len(samples) / sample_rate_hz,
        source_sha256=digest,
    )


def _open(file: IO[bytes], head: bytes) -> InputContainer:
    """FFmpeg reads through the file object, so that what the system says of a read is not mixed up with its own errors.

    By name, an I/O error of a disk and the end of a truncated file would look alike.
    """
    options = {"protocol_whitelist": "file", "format_whitelist": _CONTAINERS}
    file.seek(0)
    try:
        return av.open(file, "r", options=options, **ANY_TITLE)
    except FFmpegError as error:
        if head[4:8] in _MP4_BOXES or head.startswith(_MAGIC):
            raise BadClip("truncated", f"the file starts as media but {_in_words(error)}") from error
        raise BadClip("not media", f"the file starts with {head!r}") from error


def _choose_tracks(
    container: InputContainer, audio_track: int, num_frames: int, max_seconds: float
) -> tuple[AudioStream, VideoStream | None]:
    """A sound track and the first moving picture, ready to decode; None where no picture is wanted."""
    tracks = ", ".join(stream.type for stream in container.streams) or "none"
    if len(container.streams.audio) <= audio_track:
        raise BadClip("no audio track", f"number {audio_track} of the sound is wanted; tracks: {tracks}")
    audio = container.streams.audio[audio_track]
    moving = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    video = moving[0] if moving and num_frames else None
    if num_frames and video is None:
        raise BadClip("no video track", f"tracks: {tracks}")
    declared_seconds = max((container.duration or 0) / av.time_base, _declared_seconds(audio) or 0.0)
    if declared_seconds > max_seconds:
        raise BadClip("too long", f"{declared_seconds:.1f} s declared, at most {max_seconds:g} s are taken")
    for stream in (audio, video):
        if stream is not None and stream.codec_context is None:
            raise BadClip("decode error", f"no decoder for the {stream.type} track")
        if stream is not None:
            stream.codec_context.thread_count = 1
    if video is not None:
        require_size(video.width, video.height)
        video.codec_context.options = {"max_pixels": str(MAX_SIDE**2)}  # for sizes that change on the way
    return audio, video


def _declared_seconds(stream: AudioStream) -> float | None:
    if stream.duration is None or stream.time_base is None:
        return None
    return float(stream.duration * stream.time_base)


@dataclass
class _Sound:
    """A sound track as it comes out of the decoder, and the video packets met on the way."""

    chunks: list[np.ndarray] = field(default_factory=list)
    """Samples not yet folded, channels apart."""
    folded: list[np.ndarray] = field(default_factory=list)
    """Mean of the channels, float32 [T] in [-1, 1]."""
    layout: tuple[str, int, int] | None = None
    """Sample format, number of channels, sampling rate: the same in every chunk."""
    num_samples: int = 0
    start_seconds: float = 0.0
    end_seconds: float = 0.0
    video_packets: list[tuple[int, bool, bool]] = field(default_factory=list)
    """Presentation time in the track's own units, whether a decoder can start there, whether it is shown."""

    @property
    def duration_seconds(self) -> float:
        return self.num_samples / self.layout[2] if self.layout else 0.0

    def append(self, frame: AudioFrame) -> None:
        layout = (frame.format.name, frame.layout.nb_channels, frame.sample_rate)
        if self.layout is None:
            self.layout = layout
            self.start_seconds = self.end_seconds = frame.time or 0.0
        if layout != self.layout:
            raise BadClip(
                "decode error", f"the sound changes from {self.layout} to {layout} at {self.end_seconds:.2f} s"
            )
        self.chunks.append(frame.to_ndarray())
        if len(self.chunks) == _CHUNKS_TO_FOLD:
            self._fold()
        self.num_samples += frame.samples
        start = self.end_seconds if frame.time is None else frame.time
        self.end_seconds = start + frame.samples / frame.sample_rate

    def mono(self) -> np.ndarray:
        """Mean of the channels, float32 [T] in [-1, 1]."""
        self._fold()
        return np.concatenate(self.folded)

    def _fold(self) -> None:
        """Fold what has come: all channels of a long file at once would take a lot of memory."""
        if not self.chunks:
            return
        assert self.layout is not None
        samples = np.concatenate(self.chunks, axis=1)
        name, num_channels, _ = self.layout
        if not name.endswith("p"):  # packed: channels are interleaved
            samples = samples.reshape(-1, num_channels).T
        mean = samples.mean(axis=0, dtype=np.float32)
        if samples.dtype == np.uint8:
            mean = (mean - 128) / 128
        elif samples.dtype.kind != "f":
            mean = mean / np.float32(-float(np.iinfo(samples.dtype).min))
        self.folded.append(mean)
        self.chunks.clear()


def _decode_sound(
    container: InputContainer, audio: AudioStream, video: VideoStream | None, max_seconds: float
) -> _Sound:
    """One pass over the file: the sound decoded, the video packets noted. Raises BadClip for a file cut short.

    A packet that fails to decode does not end the pass: how much follows tells damage from a missing end.
    """
    sound, failure = _Sound(), None
    try:
        for packet in container.demux(*(stream for stream in (audio, video) if stream is not None)):
            if packet.stream_index != audio.index:
                if packet.pts is not None:
                    sound.video_packets.append((packet.pts, packet.is_keyframe, not packet.is_discard))
                continue
            try:
                _append_all(sound, packet, max_seconds)
            except FFmpegError as error:
                failure = failure or error
    except FFmpegError as error:
        failure = failure or error
    last_seconds = sound.end_seconds
    declared_seconds = _declared_seconds(audio)
    if declared_seconds is None and container.duration:  # some containers declare one length for all tracks
        declared_seconds = container.duration / av.time_base
        if video is not None and video.time_base is not None and sound.video_packets:
            last_seconds = max(last_seconds, float(max(sound.video_packets)[0] * video.time_base))
    reached_seconds = last_seconds - sound.start_seconds
    if declared_seconds is not None and declared_seconds - reached_seconds > _MISSING_SECONDS:
        raise BadClip("truncated", f"{reached_seconds:.2f} s of {declared_seconds:.2f} s are there")
    if failure is not None:
        raise BadClip("decode error", _in_words(failure))
    gap_seconds = sound.end_seconds - sound.start_seconds - sound.duration_seconds
    if gap_seconds > _MISSING_SECONDS:
        raise BadClip("decode error", f"{gap_seconds:.2f} s of sound are missing on the way")
    return sound


def _append_all(sound: _Sound, packet: Packet[Any], max_seconds: float) -> None:
    for frame in packet.decode():
        sound.append(frame)
    if sound.duration_seconds > max_seconds + _MISSING_SECONDS:
        raise BadClip("too long", f"more sound than declared, at most {max_seconds:g} s are taken")


def _to_stored(sound: _Sound, sample_rate_hz: int, min_seconds: float, keep_silent: bool) -> np.ndarray:
    """Samples int16 [T] at the stored rate, rounded to the nearest step and clipped."""
    if sound.layout is None or sound.duration_seconds < min_seconds:
        raise BadClip("too short", f"{sound.duration_seconds:.2f} s of sound, at least {min_seconds:g} s needed")
    mono = sound.mono()
    if not np.isfinite(mono).all():
        bad = np.flatnonzero(~np.isfinite(mono))
        raise BadClip("not finite", f"{len(bad)} samples, the first at {bad[0] / sound.layout[2]:.3f} s")
    mono = soxr.resample(mono, sound.layout[2], sample_rate_hz, quality="HQ")
    samples = np.clip(np.rint(mono * 32768), -32768, 32767).astype(np.int16)
    peak = float(np.abs(samples.astype(np.int32)).max(initial=0)) / 32768
    if peak < 10 ** (SILENCE_DBFS / 20) and not keep_silent:
        raise BadClip("silent", f"the loudest sample is {peak:.6f} of full scale, below {SILENCE_DBFS:g} dBFS")
    return samples


def _frames_at(
    container: InputContainer,
    video: VideoStream,
    packets: Iterable[tuple[int, bool, bool]],
    targets_seconds: list[float],
) -> list[VideoFrame]:
    """The frame nearest in time to each target, decoded forward from the keyframe before the first.

    Frames on which no other depends are not decoded unless wanted: the rest come out the same without.
    """
    assert video.time_base is not None
    tick = float(video.time_base)
    times = sorted(pts for pts, _, is_shown in packets if is_shown)
    if not times:
        raise BadClip("decode error", "no picture has a time")
    wanted = [min(times, key=lambda pts: abs(pts * tick - seconds)) for seconds in targets_seconds]
    keyframes = [pts for pts, is_key, _ in packets if is_key and pts <= wanted[0]]
    container.seek(max(keyframes, default=times[0]), stream=video)
    frames: list[VideoFrame] = []
    previous, previous_pts = None, 0
    for packet in container.demux(video):
        video.codec_context.skip_frame = "DEFAULT" if packet.pts in wanted else "NONREF"
        for frame in packet.decode():
            if frame.pts is None:
                continue
            while len(frames) < len(wanted) and frame.pts >= wanted[len(frames)]:
                target, nearest = wanted[len(frames)], frame
                if previous is not None and target - previous_pts < frame.pts - target:
                    nearest = previous
                frames.append(nearest)
            previous, previous_pts = frame, frame.pts
        if len(frames) == len(wanted):
            return frames
    if previous is None:
        raise BadClip("decode error", "no picture could be decoded")
    return frames + [previous] * (len(wanted) - len(frames))


def _turned(frame: VideoFrame) -> Image.Image:
    """Phones store the turn beside the picture."""
    require_size(frame.width, frame.height)
    image = frame.to_image()
    return image.rotate(frame.rotation, expand=True) if frame.rotation else image


def _in_words(error: Exception) -> str:
    """Message of FFmpeg or the system, without the path: details must not depend on where the data lie."""
    return getattr(error, "strerror", None) or type(error).__name__
