"""`cocktail separate`: recordings apart into stems."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import tyro

from cocktail.inference.each_file import RunsModel, for_each
from cocktail.inference.loaded import LoadedModel
from cocktail.media.recordings import FileRecording
from cocktail.recordings.hearing import Progress
from cocktail.recordings.planning import require_separable
from cocktail.recordings.sources import Choice
from cocktail.recordings.stems import Form
from cocktail.recordings.write_separated import SEPARATION


@dataclass(frozen=True, kw_only=True)
class Separate(RunsModel):
    """Take recordings apart into stems, one a class or source, of any length, rate and channels.

    For each: stems/NAME.wav, residual.wav (what no stem has, so that all add up to the recording), separation.json and
    report.html.
    """

    choice: tyro.conf.OmitArgPrefixes[Choice] = field(default_factory=Choice)
    form: tyro.conf.OmitArgPrefixes[Form] = field(default_factory=Form)


def separate(job: Separate) -> None:
    """Separate each recording. Raises UsageError."""

    def apply(model: LoadedModel, recording: FileRecording, folder: Any, progress: Progress) -> str:
        told = model.separate_file(recording, folder, job.choice, job.form, progress)
        return ", ".join(f"{stem['name']} ({stem['rms_dbfs']:.0f} dBFS)" for stem in told["stems"])

    for_each(job, job.choice, SEPARATION, require_separable, apply)
