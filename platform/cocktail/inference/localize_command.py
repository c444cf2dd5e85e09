"""`cocktail localize`: where in videos the sounds come from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import tyro

from cocktail.inference.each_file import RunsModel, for_each
from cocktail.inference.loaded import LoadedModel
from cocktail.media.recordings import FileRecording
from cocktail.recordings.hearing import Progress
from cocktail.recordings.localizing import require_localizable
from cocktail.recordings.sources import Choice
from cocktail.recordings.write_localized import LOCALIZATION


@dataclass(frozen=True, kw_only=True)
class Localize(RunsModel):
    """Show where in videos the sounds come from.

    For each: localized.mp4 (the video with maps over it, a colour a class, its sound kept), pictures/*.png,
    localization.json and report.html.
    """

    choice: tyro.conf.OmitArgPrefixes[Choice] = field(default_factory=Choice)
    maps_per_second: float = 2.0
    """Pictures that are looked at, a second; in between, one map goes over into the next."""


def localize(job: Localize) -> None:
    """Localize in each recording. Raises UsageError."""

    def apply(model: LoadedModel, recording: FileRecording, folder: Any, progress: Progress) -> str:
        told = model.localize_file(recording, folder, job.choice, job.maps_per_second, progress)
        return f"{', '.join(told['sources'])} in {len(told['maps'])} pictures"

    for_each(job, job.choice, LOCALIZATION, require_localizable, apply)
