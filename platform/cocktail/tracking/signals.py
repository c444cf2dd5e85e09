"""A process that is told to end: first its run is closed."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class TerminatedError(KeyboardInterrupt):
    """The process was told to end (SIGTERM, `ray job stop`). In a call of Ray's a SystemExit would abort it at once."""


@contextmanager
def told_to_end_once() -> Iterator[None]:
    """Inside, SIGTERM raises TerminatedError and SIGINT KeyboardInterrupt in the main thread, the first of them only.

    From another thread nothing is changed; nor is a signal that the process was started to ignore.
    """
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    if threading.current_thread() is not threading.main_thread():
        before = {}
    heeded = [number for number, handler in before.items() if handler is not signal.SIG_IGN]

    def end(number: int, _: Any) -> None:
        for each in heeded:
            signal.signal(each, signal.SIG_IGN)  # the run is being closed
        raise KeyboardInterrupt if number == signal.SIGINT else TerminatedError("SIGTERM")

    for number in heeded:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in heeded:
            # None is a handler that was not set from Python.
            signal.signal(number, before[number] or signal.SIG_DFL)
