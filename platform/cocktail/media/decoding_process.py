"""Decoding in a process of its own, which can be stopped: no file takes more time or memory than it may.

A program that decodes files of strangers cannot know beforehand what they cost, and a library in C that hangs, or
takes all memory, cannot be stopped from within. So a child process decodes one file after the other. The system ends
it when one takes too much; then that file is set aside, and the next gets a new child. What else ends or stops it, such
as memory that others take or a disk that does not answer, is no verdict on a file: it is tried again, and then told.
What decoders fail at is tried again, too, by a child that has decoded nothing before: what earlier files left behind is
no verdict on the next.

Memory is limited where the system can limit what a process allocates, which is on Linux.

The child answers calls of functions of this library, in pickles both ways: it is a part of this program, and not of the
files it reads.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import resource
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import ParamSpec, TypeVar

from cocktail.machine import peak_bytes
from cocktail.media.bad_clips import BadClip, Reason
from cocktail.types import UsageError

MAX_CPU_SECONDS = 180.0
"""Time of a processor that one file may take."""
MAX_MEMORY_BYTES = 2 << 30
"""Memory that decoding may take beside the program itself."""
MAX_WAIT_SECONDS = 1800.0
"""Time after which a child that neither answers nor works is given up."""

RETRY_SECONDS = (1.0, 5.0, 20.0, 60.0)
"""Waits before a file is decoded anew whose child the system killed: mostly since memory ran short on the node."""
MAX_IDLE_SECONDS = 60.0
"""Time after which a child that nobody calls ends, and leaves its memory to others."""
MAX_CALLS = 1000
"""Calls after which a child is replaced: libraries may leak a little with each damaged file."""

_OWN_SHARE = 0.5
"""A child that the system killed with so much of its memory in use may be what memory ran short of."""
_SAID_BY_DECODERS: tuple[Reason, ...] = ("decode error", "bad picture", "bad mask")
_ENDED_IDLE = 75
_SET_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of prctl(2)

_Arguments = ParamSpec("_Arguments")
_Answer = TypeVar("_Answer")


class DecoderStoppedError(UsageError):
    """Decoding that failed for a reason that tells nothing about the file."""


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
        max_idle_seconds: float = MAX_IDLE_SECONDS,
        max_calls: int = MAX_CALLS,
        retry_seconds: Sequence[float] = RETRY_SECONDS,
    ) -> None:
        self._limits = (max_cpu_seconds, max_memory_bytes, max_idle_seconds)
        self._max_wait_seconds = max_wait_seconds
        self._max_calls = max_calls
        self._retry_seconds = retry_seconds
        self._child: tuple[subprocess.Popen[bytes], Connection] | None = None
        self._num_calls = 0
        """Calls of the present child."""
        self._lock = threading.Lock()

    def call(
        self, function: Callable[_Arguments, _Answer], *arguments: _Arguments.args, **named: _Arguments.kwargs
    ) -> _Answer:
        """What a function of this library returns or raises, called in the child.

        Raises BadClip if it takes more time or memory than it may, or ends the child by a fault, and
        DecoderStoppedError if the child is killed again and again for others' want of memory, or stands still.
        """
        with self._lock:
            waits = iter(self._retry_seconds)
            while True:
                child, connection = self._running()
                self._num_calls += 1
                is_first = self._num_calls == 1
                try:
                    connection.send((function, arguments, named))
                    if not connection.poll(self._max_wait_seconds):
                        raise DecoderStoppedError(
                            f"decoding neither ends nor calculates for {self._max_wait_seconds:g} s, as where a disk "
                            "or network does not answer. Mend that, then run again"
                        )
                    answer, error = connection.recv()
                except (EOFError, ConnectionError):
                    status, most_bytes = _wait(child)
                    self._stop()
                    if status == _ENDED_IDLE:  # as the call came
                        continue
                    if status == -signal.SIGKILL and (seconds := next(waits, None)) is not None:
                        time.sleep(seconds)
                        continue
                    raise self._verdict(status, most_bytes) from None
                except BaseException:  # also an interrupt: the answer, when it comes, is nobody's
                    self._stop()
                    raise
                if not is_first and _may_come_of_earlier_files(error):
                    self._stop()
                    continue
                if isinstance(error, MemoryError):
                    self._stop()
                    _, max_memory_bytes, _ = self._limits
                    raise BadClip("too costly", f"decoding takes more than {max_memory_bytes / 1e9:.1f} GB of memory")
                if self._num_calls >= self._max_calls:
                    self._stop()
                if error is not None:
                    raise error
                return answer

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
            self._num_calls = 0
        return self._child

    def _stop(self) -> None:
        if self._child is not None:
            child, connection = self._child
            connection.close()
            child.kill()
            child.wait()
            self._child = None

    def _verdict(self, status: int, most_bytes: int) -> Exception:
        max_cpu_seconds, max_memory_bytes, _ = self._limits
        if status == -signal.SIGXCPU:
            return BadClip("too costly", f"decoding takes more than {max_cpu_seconds:g} s of a processor")
        if status == -signal.SIGKILL and most_bytes >= max_memory_bytes * _OWN_SHARE:
            return BadClip("too costly", "the system ends its decoder each time, which uses much of its memory then")
        if status == -signal.SIGKILL:
            return DecoderStoppedError(
                f"the system ended the process that decodes {1 + len(self._retry_seconds)} times, as it does when "
                "memory runs short, and it used little itself. Run fewer tasks on a node, or give it more memory; what "
                "is done is kept"
            )
        if status >= 0:
            return RuntimeError(f"the process that decodes ended with status {status}: its log has the reason")
        return BadClip("decode error", f"its decoder was ended by {signal.Signals(-status).name}")


def _may_come_of_earlier_files(error: Exception | None) -> bool:
    """Whether a call may have failed for memory, threads or files that earlier ones left behind, which libraries in C
    mostly tell as one of their own errors."""
    return isinstance(error, MemoryError) or (isinstance(error, BadClip) and error.reason in _SAID_BY_DECODERS)


def _wait(child: subprocess.Popen[bytes]) -> tuple[int, int]:
    """How a child ended, negative a signal's number, and the most memory it had in use, in bytes; 0 if not known."""
    try:
        _, status, used = os.wait4(child.pid, 0)
    except ChildProcessError:  # the lock of Popen was faster
        return child.wait(), 0
    child.returncode = os.waitstatus_to_exitcode(status)
    child_bytes = peak_bytes(used)
    # Until its program is loaded a child shares this process's memory, and the system counts that for its own.
    is_its_own = child_bytes > peak_bytes(resource.getrusage(resource.RUSAGE_SELF))
    return child.returncode, child_bytes if is_its_own else 0


def serve(descriptor: int, max_cpu_seconds: float, max_memory_bytes: int, max_idle_seconds: float) -> None:
    """Answer calls in the child, until the other end of the connection is closed or nobody calls for so long."""
    _die_with_parent()
    with contextlib.suppress(OSError), Path("/proc/self/oom_score_adj").open("w") as file:
        file.write("1000")  # if memory runs short, this process goes first, and takes no other's work with it
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    connection = Connection(descriptor)
    is_limited = False
    while connection.poll(max_idle_seconds):
        try:
            function, arguments, named = connection.recv()
        except EOFError:
            return
        if not is_limited:  # only now has all been imported
            data_bytes = _data_bytes()
            if data_bytes is not None:
                _limit(resource.RLIMIT_DATA, data_bytes + max_memory_bytes)
            gc.freeze()  # so that only what calls leave behind is looked through after each
            is_limited = True
        _limit(resource.RLIMIT_CPU, int(time.process_time() + max_cpu_seconds) + 1)
        try:
            connection.send((function(*arguments, **named), None))
        except MemoryError:
            connection.send((None, MemoryError()))
        except Exception as error:  # noqa: BLE001 - it is raised where the call came from
            if not isinstance(error, BadClip | UsageError):
                error.add_note(f"In the process that decodes:\n{traceback.format_exc()}")
            connection.send((None, error))
        gc.collect()  # a frame and its side data hold each other, and the frame's memory
    sys.exit(_ENDED_IDLE)


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_DEATH_SIGNAL, signal.SIGKILL)


def _data_bytes() -> int | None:
    """Memory that RLIMIT_DATA counts, of this process now; None where the system does not tell, or limit it."""
    if sys.platform != "linux":
        return None
    status = Path("/proc/self/status").read_text()
    return next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmData")), None)


def _limit(kind: int, value: int) -> None:
    _, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))
