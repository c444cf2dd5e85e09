"""Decoding in a process of its own, which can be stopped: no file takes more time or memory than it may.

A program that decodes files of strangers cannot know beforehand what they cost, and a library in C that hangs, or
takes all memory, cannot be stopped from within. So a child process decodes one file after the other. The system ends
it when one takes too much; then that file is set aside, and the next gets a new child.

The child answers calls of functions of this library, in pickles both ways: it is a part of this program, and not of the
files it reads.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import ParamSpec, TypeVar

from cocktail.media.bad_clips import BadClip

MAX_CPU_SECONDS = 180.0
"""Time of a processor that one file may take."""
MAX_MEMORY_BYTES = 2 << 30
"""Memory that decoding may take beside the program itself."""
MAX_WAIT_SECONDS = 1800.0
"""Time after which a child that neither answers nor works is given up."""

_ATTEMPTS = 2
"""Times that a file is decoded whose child something else ended: mostly the system, when memory ran short."""
_SET_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of prctl(2)

_Arguments = ParamSpec("_Arguments")
_Answer = TypeVar("_Answer")


class DecodingProcess:
    """A child process that decodes, started when it is first needed and again after it was ended.

    Calls of several threads wait for each other.
    """

    def __init__(
        self,
        *,
        max_cpu_seconds: float = MAX_CPU_SECONDS,
        max_memory_bytes: int = MAX_MEMORY_BYTES,
        max_wait_seconds: float = MAX_WAIT_SECONDS,
    ) -> None:
        self._limits = (max_cpu_seconds, max_memory_bytes)
        self._max_wait_seconds = max_wait_seconds
        self._child: tuple[subprocess.Popen[bytes], Connection] | None = None
        self._lock = threading.Lock()

    def call(
        self, function: Callable[_Arguments, _Answer], *arguments: _Arguments.args, **named: _Arguments.kwargs
    ) -> _Answer:
        """What a function of this library returns or raises, called in the child.

        Raises BadClip if it takes more time or memory than it may, or ends the child by a fault.
        """
        with self._lock:
            for attempt in range(1, _ATTEMPTS + 1):
                child, connection = self._running()
                try:
                    connection.send((function, arguments, named))
                    if not connection.poll(self._max_wait_seconds):
                        self._stop()
                        raise BadClip("too costly", f"no answer for {self._max_wait_seconds:g} s")
                    answer, error = connection.recv()
                except (EOFError, ConnectionError):
                    ended_by = -child.wait()
                    self._stop()
                    if ended_by == signal.SIGKILL and attempt < _ATTEMPTS:
                        continue
                    raise self._verdict(ended_by) from None
                except BaseException:  # an interrupt: the answer, when it comes, is nobody's
                    self._stop()
                    raise
                if error is not None:
                    raise error
                return answer
            raise AssertionError("the last attempt returns or raises")

    def close(self) -> None:
        """End the child."""
        with self._lock:
            self._stop()

    def _running(self) -> tuple[subprocess.Popen[bytes], Connection]:
        if self._child is not None and self._child[0].poll() is not None:
            self._stop()
        if self._child is None:
            ours, theirs = Pipe()
            paths = [str(Path(path).absolute()) for path in sys.path if path]
            code = f"from {__name__} import serve; serve({theirs.fileno()}, *{self._limits!r})"
            child = subprocess.Popen(
                [sys.executable, "-c", code],
                pass_fds=[theirs.fileno()],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
                start_new_session=True,  # Ctrl-C is for the parent, which ends it
            )
            theirs.close()
            self._child = child, ours
        return self._child

    def _stop(self) -> None:
        if self._child is not None:
            child, connection = self._child
            connection.close()
            child.kill()
            child.wait()
            self._child = None

    def _verdict(self, ended_by: int) -> BadClip:
        max_cpu_seconds, _ = self._limits
        if ended_by == signal.SIGXCPU:
            return BadClip("too costly", f"decoding takes more than {max_cpu_seconds:g} s of a processor")
        if ended_by == signal.SIGKILL:
            return BadClip("too costly", "the system ended its decoder twice, as it does when memory runs short")
        if ended_by <= 0:  # it ends by itself only when this process closes the connection
            raise RuntimeError(f"the process that decodes ended with status {-ended_by}: its log has the reason")
        return BadClip("decode error", f"its decoder was ended by {signal.Signals(ended_by).name}")


def serve(descriptor: int, max_cpu_seconds: float, max_memory_bytes: int) -> None:
    """Answer calls in the child, until the other end of the connection is closed."""
    _die_with_parent()
    with contextlib.suppress(OSError), Path("/proc/self/oom_score_adj").open("w") as file:
        file.write("1000")  # if memory runs short, this process goes first, and takes no other's work with it
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    connection = Connection(descriptor)
    is_limited = False
    while True:
        try:
            function, arguments, named = connection.recv()
        except EOFError:
            return
        if not is_limited:  # only now has all been imported
            _limit(resource.RLIMIT_DATA, _data_bytes() + max_memory_bytes)
            is_limited = True
        _limit(resource.RLIMIT_CPU, int(time.process_time() + max_cpu_seconds) + 1)
        try:
            connection.send((function(*arguments, **named), None))
        except MemoryError:
            detail = f"decoding takes more than {max_memory_bytes / 1e9:.1f} GB of memory"
            connection.send((None, BadClip("too costly", detail)))
        except Exception as error:  # noqa: BLE001 - it is raised where the call came from
            connection.send((None, error))


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_DEATH_SIGNAL, signal.SIGKILL)


def _data_bytes() -> int:
    """Memory that RLIMIT_DATA counts, of this process now."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmData"))


def _limit(kind: int, value: int) -> None:
    _, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))
