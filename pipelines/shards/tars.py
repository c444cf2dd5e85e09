"""The bytes of a shard: a WebDataset tar of decoded clips, the same for the same clips.

The samples of a tar lie one after the other as `<key>.wav` (mono s16) or `<key>.flac`, `<key>.0.jpg` ...,
`<key>.mask.png`, `<key>.json`. Any WebDataset reader takes them; our own reads by the offsets that are noted here.
"""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
import wave
from collections.abc import Mapping
from typing import IO, Any, Literal

import numpy as np
import soundfile
import xxhash

from cocktail.media.clips import Clip
from pipelines.shards.signed_json import canonical_json

AudioFormat = Literal["wav", "flac"]

WAV_HEADER_BYTES = 44
DESCRIBED = ("clip_id", "labels", "class_ids", "split", "group", "role", "partner", "boxes")
"""Columns of the index row that describe a sample."""

_MAX_KEY_LENGTH = 80


class SampleTar:
    """A tar that is written as it grows, and the list of what lies where in it."""

    def __init__(self, file: IO[bytes], sample_rate_hz: int, audio_format: AudioFormat = "wav") -> None:
        self.samples: list[dict[str, Any]] = []
        """One entry a sample, in the order written: what the manifest needs, and `members`."""
        self.num_bytes = 0
        self._file = file
        self._sample_rate_hz = sample_rate_hz
        self._audio_format: AudioFormat = audio_format
        self._digest = hashlib.sha256()

    def add(self, row: Mapping[str, Any], clip: Clip) -> None:
        """Append a clip under the names that its index row gives it."""
        key = sample_key(row["clip_id"])
        described = {name: row[name] for name in DESCRIBED}
        measured = {
            "num_samples": len(clip.audio),
            "rms": rms_per_second(clip.audio, self._sample_rate_hz),
            "frame_seconds": list(clip.picture_seconds),
        }
        description = {
            **described,
            **measured,
            "sample_rate_hz": self._sample_rate_hz,
            "duration_seconds": clip.duration_seconds,
            "source_sha256": clip.source_sha256,
        }
        sound = encode_audio(clip.audio, self._sample_rate_hz, self._audio_format)
        files = {self._audio_format: sound}
        files |= {f"{number}.jpg": picture for number, picture in enumerate(clip.pictures)}
        if clip.mask is not None:
            files["mask.png"] = clip.mask
        files["json"] = canonical_json(description)
        members = {ending: self._append(f"{key}.{ending}", data) for ending, data in files.items()}
        header_bytes = WAV_HEADER_BYTES if self._audio_format == "wav" else 0
        frames = [members[f"{number}.jpg"] for number in range(len(clip.pictures))]
        mask = members.get("mask.png")
        self.samples.append(
            {
                "key": key,
                **described,
                **measured,
                "checks": checks_per_second(clip.audio, self._sample_rate_hz),
                "audio_offset": members[self._audio_format]["offset"] + header_bytes,
                "audio_bytes": len(sound) - header_bytes,
                "frame_offsets": [frame["offset"] for frame in frames],
                "frame_sizes": [frame["size"] for frame in frames],
                "frame_checks": [xxhash.xxh3_64_intdigest(picture) for picture in clip.pictures],
                "mask_offset": mask and mask["offset"],
                "mask_bytes": mask and mask["size"],
                "mask_check": None if clip.mask is None else xxhash.xxh3_64_intdigest(clip.mask),
                "members": [
                    [f"{key}.{ending}", member["size"], member["sha256"]] for ending, member in members.items()
                ],
            }
        )

    def close(self) -> str:
        """Write the end of the archive; return the sha256 of all of it."""
        self._write(archive_end(self.num_bytes))
        return self._digest.hexdigest()

    def _append(self, name: str, data: bytes) -> dict[str, Any]:
        self._write(member_header(name, len(data)))
        offset = self.num_bytes
        self._write(data)
        self._write(bytes(-len(data) % tarfile.BLOCKSIZE))
        return {"offset": offset, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self._digest.update(data)
        self.num_bytes += len(data)


def member_header(name: str, size: int) -> bytes:
    """The 512 bytes before a member's data: nothing of this machine or moment is in them."""
    member = tarfile.TarInfo(name)  # its other fields are 0, empty or 0644
    member.size = size
    return member.tobuf(tarfile.USTAR_FORMAT)


def archive_end(num_bytes: int) -> bytes:
    """Bytes that follow the last member of a tar that is so far `num_bytes` long: zeros up to a whole record."""
    end = 2 * tarfile.BLOCKSIZE
    return bytes(end + -(num_bytes + end) % tarfile.RECORDSIZE)


def sample_key(clip_id: str) -> str:
    """A clip id as a tar's key: itself if it is plain and short, else its plain part and a hash of it.

    A WebDataset key ends at the first dot, so dots would merge samples; slashes would make folders.
    """
    if re.fullmatch(r"[A-Za-z0-9_-]+", clip_id) and len(clip_id) <= _MAX_KEY_LENGTH:
        return clip_id
    plain = re.sub(r"[^A-Za-z0-9_-]", "_", clip_id)[: _MAX_KEY_LENGTH - 9]
    return f"{plain}-{hashlib.sha256(clip_id.encode()).hexdigest()[:8]}"


def rms_per_second(audio: np.ndarray, sample_rate_hz: int) -> list[float]:
    """Root mean square of each second of int16 [T], full scale 1; the last value covers what is left."""
    starts = np.arange(0, len(audio), sample_rate_hz)
    energy = np.add.reduceat((audio.astype(np.float64) / 32768) ** 2, starts)
    lengths = np.diff(np.append(starts, len(audio)))
    return np.round(np.sqrt(energy / lengths), 6).tolist()


def checks_per_second(audio: np.ndarray, sample_rate_hz: int) -> list[int]:
    """A checksum of each second of int16 [T]; the last one covers what is left."""
    return [checksum(audio[start : start + sample_rate_hz]) for start in range(0, len(audio), sample_rate_hz)]


def checksum(audio: np.ndarray) -> int:
    """XXH3 (64 bits) of int16 samples, little-endian: fast enough to be checked at every read."""
    return xxhash.xxh3_64_intdigest(np.ascontiguousarray(audio, "<i2").data)


def encode_audio(audio: np.ndarray, sample_rate_hz: int, audio_format: AudioFormat) -> bytes:
    """Samples int16 [T] as a mono WAV or FLAC file, of 16 bits either way."""
    buffer = io.BytesIO()
    if audio_format == "flac":
        soundfile.write(buffer, audio, sample_rate_hz, "PCM_16", format="FLAC")
        return buffer.getvalue()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sample_rate_hz)
        file.writeframes(audio.astype("<i2").tobytes())
    assert buffer.tell() == WAV_HEADER_BYTES + 2 * len(audio)
    return buffer.getvalue()
