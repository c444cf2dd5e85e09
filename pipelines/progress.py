"""Progress of a long run: a bar on a terminal, a line every few seconds in a log."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

LINE_SECONDS = 5.0


class ClipProgress:
    """Shows how many of the clips, or of what `noun` says, are done, how fast, how many are bad, and the time left."""

    def __init__(self, num_clips: int, title: str, noun: str = "clips") -> None:
        self.noun = noun
        self.num_clips = num_clips
        self.title = title
        self.num_done = self.num_bad = 0
        self._start = self._last_line = time.monotonic()
        self._bar: Progress | None = None

    def __enter__(self) -> ClipProgress:
        if sys.stdout.isatty():
            columns = (
                MofNCompleteColumn(),
                TextColumn(f"{self.noun} {self.title}, {{task.description}}"),
                TimeRemainingColumn(),
            )
            self._bar = Progress(BarColumn(), *columns)
            self._bar.add_task("", total=self.num_clips)
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._start

    @property
    def clips_per_second(self) -> float:
        return self.num_done / max(self.seconds, 1e-9)

    def advance(self, num_good: int, num_bad: int) -> None:
        """Count clips that are finished."""
        self.num_done += num_good + num_bad
        self.num_bad += num_bad
        speed = f"{self.clips_per_second:.1f} a second, {self.num_bad} bad"
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=self.num_done, description=speed)
        elif time.monotonic() - self._last_line >= LINE_SECONDS:
            self._last_line = time.monotonic()
            left_seconds = (self.num_clips - self.num_done) / self.clips_per_second
            print(
                f"{self.num_done} of {self.num_clips} {self.noun} {self.title}, {speed}, "
                f"{left_seconds / 60:.1f} minutes left",
                flush=True,
            )
