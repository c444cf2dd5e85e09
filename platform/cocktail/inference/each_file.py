"""What the commands for recordings have in common: their options, and one file after the other."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from cocktail.config.experiment import given_tracking_uri
from cocktail.inference.loaded import LoadedModel, load
from cocktail.media.bad_clips import BadClip
from cocktail.media.recordings import FileRecording
from cocktail.recordings.asking import Asked
from cocktail.recordings.hearing import Progress, no_progress
from cocktail.recordings.inputs import InputFile, find_inputs
from cocktail.recordings.planning import BATCH_SIZE, OVERLAP
from cocktail.recordings.results_folder import results_folder
from cocktail.recordings.sources import Choice
from cocktail.storage import absolute, is_folder, join, local_copy
from cocktail.text.printable import on_lines, on_one_line
from cocktail.text.redaction import redacted
from cocktail.types import UsageError, require

Require = Callable[[Asked, Choice], None]
"""Raises UsageError for what a model cannot do with any recording."""
Apply = Callable[[LoadedModel, FileRecording, Path, Progress], str]
"""What is done with a recording: into a folder; says in words what was found."""


@dataclass(frozen=True, kw_only=True)
class RunsModel:
    """Options of a command that puts recordings to a model."""

    inputs: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="INPUT ...")]
    """Sound and video files, folders of them, or URIs (s3://...) of either."""
    model: str
    """A checkpoint (step-...), a run's folder or name, models:/NAME/VERSION, models:/NAME@ALIAS, or an exported
    folder."""
    output: str
    """Folder or URI to write to: for one file its results, for several a folder of the name of each."""
    tracking_uri: str | None = None
    """MLflow server or database to ask for models:/... and runs; None takes MLFLOW_TRACKING_URI, or mlflow.db in
    ~/cocktail (COCKTAIL_OUTPUT)."""
    device: str | None = None
    """Torch's device (cpu, cuda, cuda:1); None takes a GPU if there is one."""
    overlap: float = OVERLAP
    """Share of each window that the next one hears, too: more is slower, and smoother."""
    batch_size: int = BATCH_SIZE
    """Windows that are put to the model together."""


def for_each(job: RunsModel, choice: Choice, marker: str, require_possible: Require, apply: Apply) -> None:
    """Put each recording to the model.

    Raises UsageError for what is wrong with all of them: an output among the inputs, or a choice that the model cannot
    follow. What is wrong with one of several is told in a line, the others go on, and the exit status is 1 in the end.
    Of a single one it is raised, as UsageError.
    """
    inputs = find_inputs(job.inputs)
    output = absolute(job.output, "--output")
    _require_outside(output, job)
    model = load(
        job.model,
        tracking_uri=job.tracking_uri or given_tracking_uri(),
        device=job.device,
        overlap=job.overlap,
        batch_size=job.batch_size,
    )
    require_possible(model.asked, choice)
    alone = [file.location for file in inputs] == [absolute(each, "INPUT") for each in job.inputs[:1]]
    failed = 0
    for number, file in enumerate(inputs):
        try:
            _put(model, file, output if alone else join(output, file.name), marker, choice, apply)
        except UsageError as error:
            if len(inputs) == 1:
                raise
            failed += 1
            print(f"error: {on_lines(redacted(str(error)))}", file=sys.stderr, flush=True)
        if len(inputs) > 1 and not (number + 1) % 10:
            print(f"{number + 1} of {len(inputs)} done, {failed} failed", flush=True)
    if failed:
        print(f"{failed} of {len(inputs)} failed", file=sys.stderr)
        sys.exit(1)


def _require_outside(output: str, job: RunsModel) -> None:
    for given in job.inputs:
        folder = absolute(given, "INPUT").rstrip("/")
        inside = f"{output.rstrip('/')}/".startswith(f"{folder}/")
        require(
            not (inside and is_folder(folder)),
            f"--output {job.output} lies in {given}: what is made would be taken for input the next time",
        )


def _put(model: LoadedModel, file: InputFile, folder: str, marker: str, choice: Choice, apply: Apply) -> None:
    began = time.monotonic()
    try:
        with local_copy(file.location) as path:
            recording = FileRecording(path, file.name)
            passes = 2 if choice.by_presence or choice.num_sources is not None else 1
            with bar(recording, passes) as progress, results_folder(folder, marker) as work:
                found = apply(model, recording, work, progress)
    except FileNotFoundError as error:
        raise UsageError(f"{file.name}: there is no such file any more") from error
    except BadClip as bad:
        raise UsageError(f"{file.name}: {bad}") from bad
    seconds = time.monotonic() - began
    print(f"{on_one_line(file.name)}: {on_one_line(found)}; {seconds:.1f} s, {folder}", flush=True)


@contextmanager
def bar(recording: FileRecording, passes: int):
    """Progress through a recording, shown on a terminal only."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield no_progress
        return
    total = None if recording.declared_seconds is None else passes * recording.declared_seconds
    columns = (BarColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
    with Bars(*columns, console=console, transient=True) as bars:
        task = bars.add_task(on_one_line(recording.name, 40), total=total)
        yield lambda seconds: bars.advance(task, seconds)
