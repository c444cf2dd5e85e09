"""Metrics on their way to MLflow: training never waits for it, and what it does not take is kept until it does."""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Mapping
from itertools import islice
from types import TracebackType

from cocktail.storage import delete_file, exists, join, read_bytes, write_atomic
from cocktail.text.redaction import redacted_uri
from cocktail.tracking.outages import ERRORS, OutageError, is_outage, pauses, reason
from cocktail.tracking.run import Point, TrackedRun, points_of
from cocktail.types import UsageError

UNSENT = "unsent.json"
BATCH = 1000
"""Points in a request, at most: MLflow takes no more."""
_FAILED_SECONDS = 10.0
"""Time that a failed run waits for its last points to be sent."""
_PROGRESS_SECONDS = 30.0


class MetricSpool:
    """Sends the metrics of a run in the background, in order, for as long as it takes, each point once.

    Of each metric, points at or before the last step that the run has are dropped: they are of steps that were
    repeated after a restart. What is unsent when a checkpoint is committed is kept beside it (`keep`), and taken up
    by the next spool of the folder; what came later is logged again by the steps that are repeated.
    """

    def __init__(self, tracked: TrackedRun, run_folder: str) -> None:
        self._tracked, self._uri = tracked, redacted_uri(tracked.tracking_uri)
        self._location = join(run_folder, UNSENT)
        self._changed = threading.Condition()
        """Held for what follows."""
        self._unsent: deque[Point] = deque()
        self._last: dict[str, int] = {}
        """The last step that was logged here, by metric."""
        self._refused: BaseException | None = None
        self._ending = False
        if exists(self._location):
            points = [Point(*values) for values in json.loads(read_bytes(self._location))]
            print(f"{len(points)} metric points of the last start are still to be sent to MLflow", flush=True)
            self._append(points)
        # A daemon: an outage must not keep a process alive that has failed.
        self._thread = threading.Thread(target=self._send_all, name="metric spool", daemon=True)
        self._thread.start()

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Take the metrics of a step; returns at once. Raises UsageError if MLflow has refused what was sent."""
        self._raise_refusal()
        self._append(points_of(metrics, step))

    def keep(self) -> None:
        """Write what is unsent to the run's folder. To be called just before a checkpoint is committed."""
        self._raise_refusal()
        self._write()

    def close(self, limit_seconds: float | None = None) -> None:
        """Wait until all is sent, up to a limit (the run's `wait_seconds`).

        Raises OutageError if something is left, which is kept in the run's folder: a run without all of its metrics is
        not finished, and nothing but the next spool of the folder sends them. Raises UsageError if MLflow has refused
        what was sent.
        """
        self._drain(self._tracked.wait_seconds if limit_seconds is None else limit_seconds)
        num_left = self._write()
        self._raise_refusal()
        if num_left:
            raise OutageError(self._told(num_left))

    def __enter__(self) -> MetricSpool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:  # which must not wait for an outage, nor hide behind a refusal
            self._drain(min(_FAILED_SECONDS, self._tracked.wait_seconds))
            num_left = self._write()
            if num_left and self._refused is None:
                print(self._told(num_left), flush=True)

    def _append(self, points: list[Point]) -> None:
        with self._changed:
            for point in points:
                if point.step > self._last.get(point.metric, -1):
                    self._last[point.metric] = point.step
                    self._unsent.append(point)
            self._changed.notify_all()

    def _write(self) -> int:
        """Returns how many points are kept."""
        with self._changed:
            points = list(self._unsent)
        if points:
            write_atomic(self._location, json.dumps(points).encode())
        else:
            delete_file(self._location)
        return len(points)

    def _drain(self, limit_seconds: float) -> None:
        end = time.monotonic() + limit_seconds
        with self._changed:
            while self._unsent and self._refused is None and (left := end - time.monotonic()) > 0:
                if not self._changed.wait_for(
                    lambda: not self._unsent or self._refused is not None, min(left, _PROGRESS_SECONDS)
                ):
                    print(
                        f"{len(self._unsent)} metric points wait for MLflow at {self._uri}, "
                        f"for {max(end - time.monotonic(), 0) / 60:.1f} more minutes at most",
                        flush=True,
                    )
            self._ending = True
            self._changed.notify_all()

    def _told(self, num_left: int) -> str:
        return (
            f"MLflow at {self._uri} has not taken {num_left} metric points: they are kept in "
            f"{self._location}, and sent when the same command is started again"
        )

    def _raise_refusal(self) -> None:
        if self._refused is not None:
            raise UsageError(
                f"MLflow at {self._uri} does not take the metrics of run {self._tracked.run_id}: "
                f"{reason(self._refused)}"
            ) from self._refused

    def _send_all(self) -> None:
        """The thread."""
        try:
            self._send_until_the_end()
        except BaseException as error:  # noqa: BLE001 (raised where training next comes by)
            with self._changed:
                self._refused = error
                self._changed.notify_all()

    def _send_until_the_end(self) -> None:
        recorded: dict[str, int] | None = None
        silent_since: float | None = None
        num_sent, waiting = 0, pauses()
        while batch := self._next_batch():
            try:
                if recorded is None:
                    recorded = {metric: step for metric, (step, _) in self._tracked.last_points().items()}
                if new := [point for point in batch if point.step > recorded.get(point.metric, -1)]:
                    self._tracked.send(new)
            except ERRORS as error:
                if not is_outage(error):
                    raise
                recorded = None  # what was not confirmed may have been carried out
                if silent_since is None:
                    silent_since, num_sent, waiting = time.monotonic(), 0, pauses()
                    print(
                        f"MLflow at {self._uri} does not answer ({reason(error)}): keeping "
                        f"{len(self._unsent)} metric points, trying again",
                        flush=True,
                    )
                self._pause(next(waiting))
                continue
            num_sent += len(batch)
            with self._changed:
                for _ in batch:
                    self._unsent.popleft()
                if silent_since is not None and not self._unsent:
                    seconds = time.monotonic() - silent_since
                    print(
                        f"MLflow at {self._uri} answers again, after {seconds:.0f} s: {num_sent} metric points sent",
                        flush=True,
                    )
                    silent_since = None
                self._changed.notify_all()

    def _next_batch(self) -> list[Point]:
        """Points to send next, as soon as there are some; none in the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._unsent or self._ending)
            return [] if self._ending else list(islice(self._unsent, BATCH))

    def _pause(self, seconds: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._ending, seconds)
