"""Stems and what no stem has, written so that they add up to the recording's own samples.

Shape letters: N stems, C channels, T samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Literal, cast

import numpy as np
import soundfile

from cocktail.media.bad_clips import BadClip
from cocktail.recordings.written_file import WrittenFile
from cocktail.storage import telling
from cocktail.text.printable import as_file_name
from cocktail.types import require

SampleFormat = Literal["int16", "float"]
FileFormat = Literal["wav", "flac", "mp3"]
RESIDUAL = "residual"
FULL_SCALE = 32768
_FINEST = 2.0**-32
"""Step that stems of floats are rounded to, -193 dB, so that their sum is exact."""
_MP3_RATES_HZ = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
_MP3_CHANNELS = 2
_FLAC_CHANNELS = 8
_FLAC_HIGHEST_HZ = 655_350
_WAV_BYTES = 4e9
"""Bytes from which on a WAV needs RF64's longer numbers."""
_SILENT_DBFS = -120.0


@dataclass(frozen=True, kw_only=True)
class Form:
    """How stems are made of masks, and written."""

    sample_format: SampleFormat = "int16"
    """Samples of 16 bits, or floats: of 32 bits for stems and of 64 for the residual, which then makes the sum exact.
    MP3 has neither."""
    format: FileFormat = "wav"
    """Kind of the files. MP3 loses a little of each stem, and with it the exact sum."""
    soft_masks: bool = False
    """Lay masks on as they are, where the model cuts them at a half: smoother, with a little more of other sources."""
    report: bool = True
    """Write report.html, too. Each takes about a megabyte, and as long as some twenty seconds of sound."""

    def __post_init__(self) -> None:
        require(
            self.format == "wav" or self.sample_format == "int16",
            f"{self.format} holds no floats: leave out --sample-format float, or take --format wav",
        )

    def require_sound(self, sample_rate_hz: int, num_channels: int) -> None:
        """Raise BadClip for sound that such files cannot hold."""
        holds = {
            "wav": True,
            "flac": sample_rate_hz <= _FLAC_HIGHEST_HZ and num_channels <= _FLAC_CHANNELS,
            "mp3": sample_rate_hz in _MP3_RATES_HZ and num_channels <= _MP3_CHANNELS,
        }
        if not holds[self.format]:
            what = f"{num_channels} channels at {sample_rate_hz} Hz"
            raise BadClip("sample rate out of range", f"{self.format} holds no {what}: take --format wav")


def in_int16(samples: np.ndarray, stems: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Stems [N, C, T] and residual [C, T] in int16, whose sum is the samples [C, T] of [-1, 1] rounded to int16.

    What the residual has no room for, where stems add up to more than the recording, is taken from them, the first
    ones first.
    """
    low, high = -FULL_SCALE, FULL_SCALE - 1
    whole, parts = (_in_steps(values) for values in (samples, stems))
    residual = whole - parts.sum(axis=0, dtype=np.int32)
    if residual.size and (residual.min() < low or residual.max() > high):
        for part in parts:
            taken = np.clip(part + residual - np.clip(residual, low, high), low, high)
            residual -= taken - part
            part[...] = taken
    return parts.astype(np.int16), residual.astype(np.int16)


def _in_steps(values: np.ndarray) -> np.ndarray:
    """Samples float32 in steps of 16 bits, int32. A power of two changes no digit, and steps are below 2^24."""
    steps = np.rint(values * np.float32(FULL_SCALE))
    return np.clip(steps, -FULL_SCALE, FULL_SCALE - 1, out=steps).astype(np.int32)


def num_clipped(samples: np.ndarray) -> int:
    """How many samples, full scale 1, int16 has no room for once they are rounded: `in_int16` clips them."""
    highest, lowest = (FULL_SCALE - 0.5) / FULL_SCALE, -(FULL_SCALE + 0.5) / FULL_SCALE  # halves go to even steps
    return int(np.count_nonzero((samples >= highest) | (samples < lowest)))


def in_floats(samples: np.ndarray, stems: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Stems float32 [N, C, T] and residual float64 [C, T], whose sum in float64 is the samples float32 [C, T].

    Stems are multiples of 2^-32, and so is every sample of up to 24 bits: no digit is lost in sums. Of other floats,
    those above 2^-27 keep all of their own.
    """
    parts = (np.rint(stems / _FINEST) * _FINEST).astype(np.float32)
    return parts, samples.astype(np.float64) - parts.astype(np.float64).sum(axis=0)


@dataclass
class Level:
    """How loud a sound is, added up as it comes."""

    energy: float = 0.0
    peak: float = 0.0
    count: int = 0

    def add(self, samples: np.ndarray) -> None:
        if samples.size:
            self.energy += float(np.square(samples, dtype=np.float64).sum())
            self.peak = max(self.peak, float(np.abs(samples).max()))
            self.count += samples.size

    @property
    def rms_dbfs(self) -> float:
        """Root of the mean square, in dB of full scale 1; -120 of silence."""
        return to_dbfs((self.energy / max(self.count, 1)) ** 0.5)

    @property
    def peak_dbfs(self) -> float:
        return to_dbfs(self.peak)


def to_dbfs(value: float) -> float:
    """A magnitude in dB of full scale 1, -120 at least, to a tenth."""
    return round(20 * float(np.log10(max(value, 10 ** (_SILENT_DBFS / 20)))), 1)


def file_names(names: Sequence[str]) -> list[str]:
    """Names of files, without their ending, of stems; all different, and none that of the residual."""
    taken: list[str] = [RESIDUAL]
    for name in names:
        plain = as_file_name(name)
        number = 2
        unique = plain
        while unique in taken:
            unique, number = f"{plain}-{number}", number + 1
        taken.append(unique)
    return taken[1:]


@dataclass
class StemsWriter:
    """Writes stems/NAME and residual into a folder as they come.

    `declared_seconds` is how long the recording says that it is, if it says it. Raises UsageError where the folder
    cannot be written, as when it is full.
    """

    folder: Path
    names: Sequence[str]
    sample_rate_hz: int
    num_channels: int
    form: Form
    declared_seconds: float | None = None
    levels: list[Level] = field(default_factory=list)
    """Of the stems."""
    residual_level: Level = field(default_factory=Level)
    input_level: Level = field(default_factory=Level)
    num_samples: int = 0
    clipped: list[int] = field(default_factory=list)
    """Samples of each stem beyond full scale, which int16 clips; none of floats."""
    input_clipped: int = 0
    """The same of the recording."""

    def __post_init__(self) -> None:
        self.form.require_sound(self.sample_rate_hz, self.num_channels)
        with telling(str(self.folder), "write"):
            (self.folder / "stems").mkdir(parents=True, exist_ok=True)
        self._written: list[WrittenFile] = []
        ending = self.form.format
        self.files = [f"stems/{name}.{ending}" for name in file_names(self.names)]
        self.residual_file = f"{RESIDUAL}.{ending}"
        self.levels = [Level() for _ in self.names]
        self.clipped = [0 for _ in self.names]
        is_float = self.form.sample_format == "float"
        self._stems = [self._open(file, "FLOAT", 4) if is_float else self._open(file) for file in self.files]
        self._residual = self._open(self.residual_file, "DOUBLE", 8) if is_float else self._open(self.residual_file)

    def _open(self, file: str, subtype: str | None = None, value_bytes: int = 2) -> soundfile.SoundFile:
        kind = self.form.format.upper()
        if kind == "WAV":
            seconds = self.declared_seconds
            values = float("inf") if seconds is None else 1.05 * seconds * self.sample_rate_hz * self.num_channels
            kind = "RF64" if values * value_bytes > _WAV_BYTES else "WAV"
        chosen = subtype or (None if self.form.format == "mp3" else "PCM_16")
        written = WrittenFile(self.folder / file)
        self._written.append(written)
        return soundfile.SoundFile(
            cast(BinaryIO, written), "w", self.sample_rate_hz, self.num_channels, chosen, format=kind
        )

    def add(self, samples: np.ndarray, stems: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Write further samples: float32 [C, T] of the recording, float32 [N, C, T] of its stems.

        Returns stems and residual in [-1, 1] as they were written.
        """
        if self.form.sample_format == "float":
            parts, residual = in_floats(samples, stems)
            shown = parts, residual.astype(np.float32)
        else:
            parts, residual = in_int16(samples, stems)
            shown = parts / np.float32(FULL_SCALE), residual / np.float32(FULL_SCALE)
            self.clipped = [before + num_clipped(stem) for before, stem in zip(self.clipped, stems, strict=True)]
            self.input_clipped += num_clipped(samples)
        for file, level, part, seen in zip(self._stems, self.levels, parts, shown[0], strict=True):
            file.write(part.T)
            level.add(seen)
        self._residual.write(residual.T)
        self._require_written()
        self.residual_level.add(shown[1])
        self.input_level.add(samples)
        self.num_samples += samples.shape[1]
        return shown

    def close(self) -> None:
        for file in (*self._stems, self._residual):
            file.close()
        for written in self._written:
            written.close()
        self._require_written()

    def _require_written(self) -> None:
        for written in self._written:
            written.require_written()
