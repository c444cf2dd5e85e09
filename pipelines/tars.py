"""The bytes of a shard: a WebDataset tar of decoded clips, the same for the same clips.

The samples of a tar lie one after the other as `<key>.wav` (mono s16), `<key>.0.jpg` ..., `<key>.json`. Any
WebDataset reader takes them; our own reads by the offsets that are noted here.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
import wave
from collections.abc import Mapping
from typing import Any

import numpy as np

from pipelines.media import Clip

WAV_HEADER_BYTES = 44

_MAX_KEY_LENGTH = 80


class SampleTar:
    """A tar that grows in memory, and the list of what lies where in it."""

    def __init__(self, sample_rate_hz: int) -> None:
        self.samples: list[dict[str, Any]] = []
        """One entry a sample: names, num_samples, rms, audio_offset (its first PCM byte), frames."""
        self._sample_rate_hz = sample_rate_hz
        self._buffer = io.BytesIO()
        self._tar = tarfile.open(fileobj=self._buffer, mode="w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115

    def add(self, row: Mapping[str, Any], clip: Clip) -> None:
        """Append a clip under the names that its index row gives it."""
        key = sample_key(row["clip_id"])
        named = {name: row[name] for name in ("clip_id", "label", "class_id", "split")}
        rms = rms_per_second(clip.audio, self._sample_rate_hz)
        described = {
            **named,
            "sample_rate_hz": self._sample_rate_hz,
            "num_samples": len(clip.audio),
            "duration_seconds": clip.duration_seconds,
            "picture_seconds": clip.picture_seconds,
            "rms": rms,
            "source_sha256": clip.source_sha256,
        }
        audio = self._append(f"{key}.wav", _to_wav(clip.audio, self._sample_rate_hz))
        frames = [self._append(f"{key}.{i}.jpg", picture) for i, picture in enumerate(clip.pictures)]
        self._append(f"{key}.json", canonical_json(described))
        self.samples.append(
            {
                "key": key,
                **named,
                "num_samples": len(clip.audio),
                "rms": rms,
                "audio_offset": audio["offset"] + WAV_HEADER_BYTES,
                "audio_sha256": audio["sha256"],
                "frames": frames,
            }
        )

    def close(self) -> memoryview:
        """The finished tar."""
        self._tar.close()
        return self._buffer.getbuffer()

    def _append(self, name: str, data: bytes) -> dict[str, Any]:
        member = tarfile.TarInfo(name)  # its other fields are 0, empty or 0644: nothing of this machine
        member.size = len(data)
        offset = self._buffer.tell() + tarfile.BLOCKSIZE
        self._tar.addfile(member, io.BytesIO(data))
        return {"offset": offset, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}


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


def canonical_json(value: Any) -> bytes:
    """JSON that is the same for equal values: sorted keys, no spaces, UTF-8."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _to_wav(audio: np.ndarray, sample_rate_hz: int) -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sample_rate_hz)
        file.writeframes(audio.astype("<i2").tobytes())
    assert buffer.tell() == WAV_HEADER_BYTES + 2 * len(audio)
    return buffer.getvalue()
