"""Reading clips out of shards by offset, each second of sound and each picture checked against its checksum."""

from __future__ import annotations

import functools
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import soundfile
import xxhash

from cocktail.storage import join, open_reader
from cocktail.types import UsageError
from pipelines.manifest import Manifest
from pipelines.tars import checksum


class DamagedMemberError(UsageError):
    """A member of a shard whose bytes are not those that were written."""

    def __init__(self, shard: str, clip_id: str, found: str) -> None:
        super().__init__(
            f"{shard}: clip {clip_id} is damaged: {found}. python jobs/verify.py FOLDER names all that is damaged "
            "and says how to mend it"
        )
        self._parts = (shard, clip_id, found)

    def __reduce__(self) -> tuple[type[DamagedMemberError], tuple[str, str, str]]:
        return type(self), self._parts


@functools.lru_cache(maxsize=64)
def _shard_file(folder: str, shard: str) -> pa.NativeFile:
    return open_reader(join(folder, shard))


@dataclass(frozen=True, kw_only=True)
class ClipSource:
    """Where the sound of a data set's clips lies, and how it is stored. Small: travels to any worker."""

    folder: str
    sample_rate_hz: int
    audio_format: str

    @classmethod
    def of(cls, manifest: Manifest) -> ClipSource:
        """That of a finished data set."""
        return cls(folder=manifest.folder, sample_rate_hz=manifest.sample_rate_hz, audio_format=manifest.audio_format)

    def read(self, clip: Mapping[str, Any], start: int, count: int, checks: Sequence[int]) -> np.ndarray:
        """int16 [count]: samples of a clip from `start` on.

        `clip` has `shard`, `clip_id`, `audio_offset`, `audio_bytes` and `num_samples` of its manifest row, and
        `checks` are the checksums of the seconds that the samples touch: those seconds are read whole and checked.
        Raises DamagedMemberError.
        """
        first_second = start // self.sample_rate_hz
        begin = first_second * self.sample_rate_hz
        end = min(-(-(start + count) // self.sample_rate_hz) * self.sample_rate_hz, clip["num_samples"])
        file = _shard_file(self.folder, clip["shard"])
        if self.audio_format == "flac":
            samples = _decode_flac(file.read_at(clip["audio_bytes"], clip["audio_offset"]), begin, end)
        else:
            samples = np.frombuffer(
                file.read_at(2 * (end - begin), clip["audio_offset"] + 2 * begin)[: 2 * (end - begin)], "<i2"
            )
        if len(samples) != end - begin:
            raise DamagedMemberError(join(self.folder, clip["shard"]), clip["clip_id"], "its sound ends early")
        for number, check in enumerate(checks):
            if checksum(samples[number * self.sample_rate_hz : (number + 1) * self.sample_rate_hz]) != check:
                found = f"the checksum of second {first_second + number} of its sound differs"
                raise DamagedMemberError(join(self.folder, clip["shard"]), clip["clip_id"], found)
        return samples[start - begin : start - begin + count]


def _decode_flac(data: bytes, begin: int, end: int) -> np.ndarray:
    """What can be decoded of samples begin to end; fewer, or none, if the file is damaged."""
    try:
        return soundfile.read(io.BytesIO(data), start=begin, stop=end, dtype="int16")[0]
    except soundfile.LibsndfileError:
        return np.empty(0, np.int16)


def read_audio(manifest: Manifest, row: Mapping[str, Any]) -> np.ndarray:
    """int16 [T]: all sound of a manifest row. Raises DamagedMemberError."""
    return ClipSource.of(manifest).read(row, 0, row["num_samples"], row["checks"])


def read_frame(manifest: Manifest, row: Mapping[str, Any], number: int) -> bytes:
    """A picture of a manifest row, as a JPEG file. Raises DamagedMemberError."""
    extent = row["frame_offsets"][number], row["frame_sizes"][number]
    return _read_checked(manifest.folder, row, *extent, row["frame_checks"][number], f"picture {number}")


def read_mask_png(manifest: Manifest, row: Mapping[str, Any]) -> bytes | None:
    """The mask of a manifest row's first picture, as a PNG file; None if it has none. Raises DamagedMemberError."""
    if row["mask_offset"] is None:
        return None
    return _read_checked(manifest.folder, row, row["mask_offset"], row["mask_bytes"], row["mask_check"], "mask")


def _read_checked(folder: str, row: Mapping[str, Any], offset: int, size: int, check: int, name: str) -> bytes:
    data = _shard_file(folder, row["shard"]).read_at(size, offset)
    if xxhash.xxh3_64_intdigest(data) != check:
        raise DamagedMemberError(join(folder, row["shard"]), row["clip_id"], f"the checksum of its {name} differs")
    return data
