"""One clip off a disk: its sound as int16 at one rate, a few of its pictures as JPEG, or the reason why not.

Files come from strangers. Only known containers are opened, nothing but the file itself is read, lengths
and picture sizes are bounded before and while decoding, and whatever is wrong ends as a `BadClip`. What a clip may
take in time and memory is bounded where this runs: `cocktail.media.decoding_process`.
"""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import IO, Any

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Disposition
from av.video.stream import VideoStream

from cocktail.media.bad_clips import BadClip
from cocktail.media.endings import find_missing_end, tells_its_length
from cocktail.media.frames import VideoPackets, frames_at, prepare_video, upright
from cocktail.media.pictures import to_jpeg
from cocktail.media.sounds import Sound, require_decodable
from cocktail.types import UsageError

_MISSING_SECONDS = 0.5
"""Less sound than the header declares, by more than this, is a file cut short. Codec padding stays below. So much may
fail to decode where a longer recording was cut, at its beginning and end."""

# Playlists and scripts (hls, dash, concat ...) are left out: they make FFmpeg open other files and URLs.
_CONTAINERS = "mov,mp4,m4a,3gp,matroska,webm,avi,flv,asf,mpegts,mpeg,wav,w64,aiff,au,flac,ogg,mp3,aac"
_MAGIC = (b"RIFF", b"\x1aE\xdf\xa3", b"OggS", b"fLaC", b"ID3", b"FLV", b"FORM", b"\x30\x26\xb2\x75")
_WHOLE_BY_BYTES = ("mov", "matroska", "wav", "avi", "ogg")
"""Containers that say of their bytes where they end, which is all that is believed of them."""
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

    The pictures are those that are shown at the centres of `num_frames` equal parts of the sound (1: the middle),
    as a player shows them, shrunk to `picture_short_side` pixels, never enlarged. Raises BadClip for what is wrong
    with the file, and UsageError if the system fails to read it: that tells nothing about the clip.
    """
    with reading_media(Path(path).absolute()) as (file, head):
        with open_media(file, head) as container:
            audio, video = _choose_tracks(container, audio_track, num_frames)
            declared_seconds = _declared_seconds(file, container, audio, max_seconds)
            sound, packets = _decode_sound(container, audio, video, declared_seconds, sample_rate_hz, max_seconds)
            if sound.duration_seconds < min_seconds:
                raise BadClip(
                    "too short", f"{sound.duration_seconds:.2f} s of sound, at least {min_seconds:g} s needed"
                )
            samples = sound.stored(keep_silent)
            shown = []
            if video is not None:
                targets = [
                    sound.start_seconds + (part + 0.5) / num_frames * sound.duration_seconds
                    for part in range(num_frames)
                ]
                aspect = float(video.sample_aspect_ratio or 1)
                shown = [
                    (to_jpeg(upright(frame, aspect), picture_short_side), seconds)
                    for frame, seconds in frames_at(container, video, lambda: open_media(file, head), packets, targets)
                ]
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Clip(
        audio=samples,
        pictures=tuple(picture for picture, _ in shown),
        picture_seconds=tuple(round(seconds - sound.start_seconds, 6) for _, seconds in shown),
        duration_seconds=len(samples) / sample_rate_hz,
        source_sha256=digest,
    )


@contextmanager
def reading_media(path: Path) -> Iterator[tuple[BufferedReader, bytes]]:
    """A media file, open and with its end there, and its first bytes.

    What the block raises of the file's content becomes a BadClip, and what the system says a UsageError.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode) and not path.is_dir():  # opening a pipe waits for its writer
            raise BadClip("not media", "a pipe, socket or device")
        with path.open("rb") as file:
            head = file.read(16)
            if not head:
                raise BadClip("empty file", "0 bytes")
            missing = find_missing_end(file)
            if missing is not None:
                raise BadClip("truncated", missing)
            yield file, head
    except MemoryError:  # FFmpeg's own is one of its errors, too
        raise
    except FFmpegError as error:  # some are an OSError, too, and come of the file's content
        raise BadClip("decode error", in_words(error)) from error
    except FileNotFoundError as error:
        raise BadClip("missing file", f"no file {path.name}") from error
    except OSError as error:
        raise UsageError(f"cannot read {path}: {in_words(error)}. Mend that, then run again") from error


def open_media(file: IO[bytes], head: bytes) -> InputContainer:
    """The container in a file that starts with these bytes; raises BadClip for what is none that is opened.

    FFmpeg reads through the file object, so that what the system says of a read is not mixed up with its own errors.

    By name, an I/O error of a disk and the end of a truncated file would look alike.
    """
    options = {"protocol_whitelist": "file", "format_whitelist": _CONTAINERS}
    file.seek(0)
    try:
        return av.open(file, "r", options=options, **ANY_TITLE)
    except MemoryError:
        raise
    except FFmpegError as error:
        if head[4:8] in _MP4_BOXES or head.startswith(_MAGIC):
            raise BadClip("truncated", f"the file starts as media but {in_words(error)}") from error
        raise BadClip("not media", f"the file starts with {head!r}") from error


def moving_pictures(container: InputContainer) -> list[VideoStream]:
    """Video tracks of a container that are no cover."""
    return [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]


def _choose_tracks(
    container: InputContainer, audio_track: int, num_frames: int
) -> tuple[AudioStream, VideoStream | None]:
    """A sound track and the first moving picture, ready to decode; None where no picture is wanted."""
    tracks = ", ".join(stream.type for stream in container.streams) or "none"
    if len(container.streams.audio) <= audio_track:
        raise BadClip("no audio track", f"number {audio_track} of the sound is wanted; tracks: {tracks}")
    audio = container.streams.audio[audio_track]
    video = next(iter(moving_pictures(container)), None) if num_frames else None
    if num_frames and video is None:
        raise BadClip("no video track", f"tracks: {tracks}")
    for stream in (audio, video):
        if stream is not None and stream.codec_context is None:
            raise BadClip("decode error", f"no decoder for the {stream.type} track")
    audio.codec_context.thread_count = 1
    if video is not None:
        prepare_video(video)
    return audio, video


def _declared_seconds(
    file: IO[bytes], container: InputContainer, audio: AudioStream, max_seconds: float
) -> float | None:
    """Length of the sound that the file has to hold; None if all that is there is all there is to be.

    Raises BadClip for a length, or a number of values, that is not going to be decoded.
    """
    whole_seconds, track_seconds = _lengths(container, audio)
    longest_seconds = max(whole_seconds, track_seconds or 0.0) if _tells(file, container) else 0.0
    codec = audio.codec_context
    if codec.sample_rate:
        require_decodable(codec.sample_rate, codec.channels, min(longest_seconds, max_seconds))
    if longest_seconds > max_seconds:
        raise BadClip("too long", f"{longest_seconds:.1f} s declared, at most {max_seconds:g} s are taken")
    return promised_seconds(file, container, audio)


def promised_seconds(file: IO[bytes], container: InputContainer, audio: AudioStream) -> float | None:
    """Length of the sound that a file has to hold; None if all that is there is all there is to be, as where the length
    is a guess."""
    if container.format.name.split(",")[0] in _WHOLE_BY_BYTES or not _tells(file, container):
        return None
    whole_seconds, track_seconds = _lengths(container, audio)
    return track_seconds or whole_seconds or None


def _tells(file: IO[bytes], container: InputContainer) -> bool:
    position = file.tell()
    tells = tells_its_length(file, container.format.name.split(",")[0])
    file.seek(position)
    return tells


def _lengths(container: InputContainer, audio: AudioStream) -> tuple[float, float | None]:
    """Length of a whole file, 0 where that is unknown, and of its sound, if that has one of its own."""
    track_seconds = None
    if audio.duration is not None and audio.time_base is not None:
        track_seconds = float(audio.duration * audio.time_base)
    return (container.duration or 0) / av.time_base, track_seconds


def _decode_sound(
    container: InputContainer,
    audio: AudioStream,
    video: VideoStream | None,
    declared_seconds: float | None,
    sample_rate_hz: int,
    max_seconds: float,
) -> tuple[Sound, VideoPackets]:
    """One pass over the file: the sound decoded, the video packets noted. Raises BadClip for a file cut short.

    A packet that fails to decode does not end the pass: how much follows tells damage from a missing end. Where a
    recording was cut out of a longer one, the first and last may fail, as they do in any player.
    """
    sound, packets = Sound(sample_rate_hz), VideoPackets(by_decoding=container.format.name == "avi")
    failed_seconds = 0.0
    failure: FFmpegError | None = None
    timed = {stream.index: 0 for stream in (*container.streams.audio, *moving_pictures(container))}
    try:
        for packet in container.demux():
            # The empty ones at the end, with which decoders give what they hold back, know their track only so.
            track = packet.stream_index if packet.size else packet.stream.index
            if declared_seconds is not None and track in timed and packet.pts is not None:
                timed[track] = max(timed[track], packet.pts + (packet.duration or 0))
            if video is not None and track == video.index:
                packets.note(packet)
            if track != audio.index:
                continue
            try:
                num_before = sound.num_samples
                for frame in packet.decode():
                    assert isinstance(frame, AudioFrame)
                    sound.append(frame)
            except MemoryError:
                raise
            except FFmpegError as error:
                failed_seconds += float((packet.duration or 0) * (packet.time_base or 0))
                failure = failure or error
                continue
            if sound.duration_seconds > max_seconds + _MISSING_SECONDS:
                raise BadClip("too long", f"more sound than declared, at most {max_seconds:g} s are taken")
            if failure is not None and num_before and packet.size and sound.num_samples > num_before:
                raise BadClip("decode error", f"{in_words(failure)}, before {sound.end_seconds:.2f} s")
            if sound.num_samples > num_before and failed_seconds <= _MISSING_SECONDS:
                failure, failed_seconds = None, 0.0  # at the beginning
    except MemoryError:
        raise
    except FFmpegError as error:
        failure, failed_seconds = failure or error, float("inf")
    last_seconds = [float(end * (container.streams[number].time_base or 0)) for number, end in timed.items()]
    # A section of a FLAC file has the whole's length in its header, but each of its packets decodes to the last.
    is_section = container.format.name == "flac" and failure is None
    if declared_seconds is not None and not is_section:
        require_reached(declared_seconds, sound.start_seconds, max(sound.end_seconds, *last_seconds))
    if failure is not None and failed_seconds > _MISSING_SECONDS:
        raise BadClip("decode error", in_words(failure))
    gap_seconds = sound.end_seconds - sound.start_seconds - sound.duration_seconds
    if gap_seconds > _MISSING_SECONDS:
        raise BadClip("decode error", f"{gap_seconds:.2f} s of sound are missing on the way")
    return sound, packets


def require_reached(promised_seconds: float, start_seconds: float, end_seconds: float) -> None:
    """Raise BadClip for a file whose last track ends before the length that it has to hold.

    Some containers declare one length for all tracks, counted from the first packet or from 0.
    """
    reached_seconds = end_seconds - min(0.0, start_seconds)
    if promised_seconds - reached_seconds > _MISSING_SECONDS:
        raise BadClip("truncated", f"{reached_seconds:.2f} s of {promised_seconds:.2f} s are there")


def in_words(error: Exception) -> str:
    """Message of FFmpeg or the system, without the path: details must not depend on where the data lie."""
    return getattr(error, "strerror", None) or type(error).__name__
