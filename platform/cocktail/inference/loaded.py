"""A trained model as one uses it on one's own recordings.

Shape letters: N stems, C channels, T samples, W windows, K classes of the model.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from cocktail.inference.origin import Origin, open_model
from cocktail.inference.trained import Trained
from cocktail.media.bad_clips import BadClip
from cocktail.media.recording import ArrayRecording, Recording
from cocktail.media.recordings import FileRecording
from cocktail.numerics.precision import use_tf32
from cocktail.recordings.asking import Asked
from cocktail.recordings.hearing import Progress, no_progress
from cocktail.recordings.localizing import LocalizedRecording, localize_recording
from cocktail.recordings.planning import BATCH_SIZE, OVERLAP, plan_of, window_grid
from cocktail.recordings.results_folder import results_folder
from cocktail.recordings.separating import Findings, separate
from cocktail.recordings.sources import Choice
from cocktail.recordings.stems import Form
from cocktail.recordings.write_localized import LOCALIZATION, write_localized
from cocktail.recordings.write_separated import SEPARATION, write_separated
from cocktail.types import UsageError, require


class BadRecordingError(UsageError):
    """What is wrong with one recording, which others need not have; `bad` holds the reason to count it by."""

    def __init__(self, name: str, bad: BadClip) -> None:
        super().__init__(f"{name}: {bad}")
        self.name, self.bad = name, bad

    def __reduce__(self) -> tuple[type[BadRecordingError], tuple[str, BadClip]]:
        return type(self), (self.name, self.bad)


@dataclass(frozen=True, kw_only=True)
class Separated:
    """A recording's stems, in memory."""

    names: tuple[str, ...]
    """Names of the stems: classes, or `source 1` and so on."""
    stems: np.ndarray
    """float32 [N, C, T], at the recording's own rate."""
    samples: np.ndarray
    """The recording itself, float32 [C, T]."""
    sample_rate_hz: int
    starts_seconds: tuple[float, ...]
    """When the W windows begin."""
    presence: np.ndarray | None
    """Probability [W, K] of each of the model's classes; None of a model that does not say."""

    @property
    def residual(self) -> np.ndarray:
        """What no stem has, float32 [C, T]."""
        return self.samples - self.stems.sum(axis=0)


class LoadedModel:
    """A trained model, ready for recordings. `load` makes one."""

    def __init__(
        self,
        trained: Trained,
        origin: Origin | None = None,
        device: str | None = None,
        overlap: float = OVERLAP,
        batch_size: int = BATCH_SIZE,
    ) -> None:
        """`device` is torch's; None takes a GPU if there is one. `overlap`, from 0 to below 1, is the share of windows
        that the next ones hear, too, and `batch_size` how many are put to the model together."""
        require(0 <= overlap < 1, f"overlap must be from 0 to below 1, not {overlap}")
        require(batch_size >= 1, f"batch_size must be at least 1, not {batch_size}")
        use_tf32(False)
        self.trained, self.origin = trained, origin
        self.asked = Asked(trained, device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.overlap, self.batch_size = overlap, batch_size

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes that it knows."""
        return self.trained.classes

    def separate(
        self,
        recording: str | Path | np.ndarray | Recording,
        sample_rate_hz: int | None = None,
        choice: Choice | None = None,
        progress: Progress = no_progress,
        soft_masks: bool = False,
    ) -> Separated:
        """Separate a file, or samples float [C, T] or [T] in [-1, 1], or int16, of a rate; all of it in memory.

        `soft_masks` leaves masks as they are where the model cuts them. `separate_file` writes files of any length.
        Raises UsageError for what cannot be read, or not be separated so.
        """
        with opened(recording, sample_rate_hz) as source:
            grid, findings = window_grid(self.asked, self.overlap), Findings()
            plan = plan_of(self.asked, source, choice or Choice(), grid, self.batch_size, progress)
            pieces = list(
                separate(self.asked, source, plan, grid, self.batch_size, findings, progress, soft_masks=soft_masks)
            )
            rate = self.asked.sample_rate_hz
            return Separated(
                names=plan.names,
                stems=np.concatenate([piece.stems for piece in pieces], axis=-1),
                samples=np.concatenate([piece.samples for piece in pieces], axis=-1),
                sample_rate_hz=source.sample_rate_hz,
                starts_seconds=tuple(start / rate for start in findings.starts),
                presence=np.stack(findings.presence) if findings.presence else plan.presence,
            )

    def separate_file(
        self,
        recording: str | Path | Recording,
        folder: str | Path,
        choice: Choice | None = None,
        form: Form | None = None,
        progress: Progress = no_progress,
    ) -> dict:
        """Separate a recording of any length into a folder: stems, residual, separation.json and a page.

        Returns what separation.json holds, which is written last. Raises UsageError as `separate` does.
        """
        with opened(recording) as source, results_folder(str(folder), SEPARATION) as place:
            return write_separated(
                self.asked, self.origin, source, place, choice or Choice(), form or Form(),
                overlap=self.overlap, batch_size=self.batch_size, progress=progress,
            )  # fmt: skip

    def localize(
        self,
        recording: str | Path | Recording,
        choice: Choice | None = None,
        maps_per_second: float = 2.0,
        progress: Progress = no_progress,
    ) -> LocalizedRecording:
        """Where in a video its sounds come from: pictures, and a map of each source in each; all of it in memory.

        Raises UsageError for what cannot be read, or has no pictures.
        """
        with opened(recording) as source:
            return localize_recording(
                self.asked, source, choice or Choice(), maps_per_second, self.batch_size, progress
            )

    def localize_file(
        self,
        recording: str | Path | FileRecording,
        folder: str | Path,
        choice: Choice | None = None,
        maps_per_second: float = 2.0,
        progress: Progress = no_progress,
    ) -> dict:
        """Localize in a video of any length, into a folder: the video with the maps over it, PNGs, localization.json
        and a page.

        Returns what localization.json holds, which is written last. Raises UsageError as `localize` does.
        """
        with opened(recording) as source:
            require(isinstance(source, FileRecording), "localize_file takes a file")
            assert isinstance(source, FileRecording)
            with results_folder(str(folder), LOCALIZATION) as place:
                return write_localized(
                    self.asked, self.origin, source, place, choice or Choice(), maps_per_second,
                    batch_size=self.batch_size, progress=progress,
                )  # fmt: skip


def load(
    model: str,
    *,
    tracking_uri: str | None = None,
    device: str | None = None,
    overlap: float = OVERLAP,
    batch_size: int = BATCH_SIZE,
) -> LoadedModel:
    """A trained model: of a checkpoint, a run (its folder or name), `models:/NAME/VERSION`, `models:/NAME@ALIAS`, or an
    exported folder.

    Raises UsageError if there is none.
    """
    trained, origin = open_model(model, tracking_uri)
    return LoadedModel(trained, origin, device, overlap, batch_size)


@contextmanager
def opened(recording: str | Path | np.ndarray | Recording, sample_rate_hz: int | None = None) -> Iterator[Recording]:
    """A recording of what was given; what is wrong with it becomes a BadRecordingError that names it."""
    name = str(recording) if isinstance(recording, str | Path) else getattr(recording, "name", "the samples")
    try:
        if isinstance(recording, str | Path):
            yield FileRecording(recording)
        elif isinstance(recording, np.ndarray):
            require(sample_rate_hz is not None, "samples need their sample_rate_hz")
            assert sample_rate_hz is not None
            yield ArrayRecording(recording, sample_rate_hz)
        else:
            yield recording
    except BadClip as bad:
        raise BadRecordingError(name, bad) from bad
