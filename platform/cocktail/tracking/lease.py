"""A lease on a folder: of several processes, on whatever host, one at a time works in it.

The holder says in a file who it is and renews that file, so that others see that it lives. They compare what they read
by their own clocks alone: hosts' clocks may differ, and so may that of a store. No store here writes under a condition,
so who takes a lease over writes, lets others' writes settle, and looks whether it is still the holder; a holder looks
again before each renewal.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
import uuid
from types import TracebackType
from typing import Any

from cocktail.storage import create, delete_file, is_remote, join, read_bytes, write_atomic
from cocktail.tracking.processes import is_gone, is_running, this_process
from cocktail.types import UsageError

LEASE = "lease.json"
GOING_SECONDS = 20.0
"""Time that a process that was killed may take to be gone."""


class Lease:
    """Held inside a `with` block. `of` and `name` say what the folder is of, and `option` what names another.

    Entering raises UsageError, which names the holder, while another process holds it. One that has ended on this host
    is followed at once; one of another host or container, or from before this host's start, once it has not renewed the
    lease for `lapse_seconds`. If another process takes it over, or nobody can renew it any more, SIGTERM is sent to
    this one; where that raises KeyboardInterrupt, as while a run is open (`TrackedRun.closing`), leaving the block
    raises UsageError, which says why and names the new holder.

    A block that KeyboardInterrupt ends leaves the lease to lapse: what it started may still be working.
    """

    def __init__(
        self,
        folder: str,
        name: str,
        *,
        of: str = "run",
        option: str = "--run-name",
        renew_seconds: float = 10.0,
        lapse_seconds: float = 60.0,
        settle_seconds: float = 2.0,
    ) -> None:
        self._location, self._whole, self._option = join(folder, LEASE), f"{of} {name}", option
        self._renew_seconds, self._lapse_seconds, self._settle_seconds = renew_seconds, lapse_seconds, settle_seconds
        self._token = uuid.uuid4().hex
        self._process = this_process()
        self._renewals = 0
        self._lost: str | None = None
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._renew_until_the_end, name="lease", daemon=True)

    def __enter__(self) -> Lease:
        self._take()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ending.set()
        self._thread.join()
        if self._lost is not None:
            raise UsageError(self._lost) from error
        if isinstance(error, KeyboardInterrupt):
            return
        try:
            if self._is_ours():
                delete_file(self._location)
        except UsageError as failure:
            print(f"the lease of {self._whole} could not be given back, so it lapses: {failure}", flush=True)

    def _take(self) -> None:
        held = None
        while held is None:  # as long as what could not be created is given back before it can be read
            began = time.monotonic()
            if create(self._location, self._data()) and not is_remote(self._location):
                return
            held = self._read()
        if not self._is_own(held):
            self._wait_until_free(held)
            began = time.monotonic()
            if (now := self._read()) not in (None, held):
                raise self._held_by(_process_of(now))
            write_atomic(self._location, self._data())
        # Who looked before this was written may write as much later as this took here, or somewhat more.
        time.sleep(max(self._settle_seconds, 3 * (time.monotonic() - began)))
        now = self._read()
        if now is None:
            raise UsageError(f"{self._removed()}: start the same command again")
        if not self._is_own(now):
            raise self._held_by(_process_of(now))

    def _wait_until_free(self, held: bytes) -> None:
        """Raise UsageError if the holder lives."""
        process = _process_of(held)
        if process is not None and (process == self._process or is_gone(process)):
            return
        if process is None or not is_running(process):
            self._watch(held)
            return
        deadline = time.monotonic() + GOING_SECONDS
        while is_running(process):
            if time.monotonic() > deadline:
                raise self._held_by(process)
            time.sleep(0.5)

    def _watch(self, held: bytes) -> None:
        """Wait until a lease whose holder cannot be seen from here lapses, or is given back."""
        print(
            f"{self._whole} was last done by {_in_words(_process_of(held))}: watching for {self._lapse_seconds:g} s "
            "whether that still is at it",
            flush=True,
        )
        deadline = time.monotonic() + self._lapse_seconds
        while time.monotonic() < deadline:
            time.sleep(min(1.0, self._lapse_seconds / 10))
            now = self._read()
            if now is None:
                return
            if now != held:
                raise self._held_by(_process_of(now))

    def _renew_until_the_end(self) -> None:
        """The thread. An outage of the store, or a want of room in it, ends nothing: it is tried again, and who has
        taken the lease over meanwhile is seen then."""
        try:
            while self._lost is None and not self._ending.wait(self._renew_seconds):
                try:
                    self._renew()
                except UsageError as error:
                    print(f"the lease of {self._whole} could not be renewed: {error}", flush=True)
        except BaseException as error:  # nobody would look again who holds the lease
            self._lose(f"the lease of {self._whole} cannot be renewed ({error!r}): this process has ended")
            raise

    def _renew(self) -> None:
        now = self._read()
        if now is None:
            self._lose(f"{self._removed()}: this process has ended, and the same command goes on")
        elif not self._is_own(now):
            self._lose(f"{self._whole} was taken over by {_in_words(_process_of(now))}: this process has ended")
        else:
            self._renewals += 1
            write_atomic(self._location, self._data())

    def _lose(self, why: str) -> None:
        self._lost = why
        # What waits in a system call or for another thread is interrupted by nothing less.
        os.kill(os.getpid(), signal.SIGTERM)

    def _removed(self) -> str:
        return f"the lease of {self._whole} ({self._location}) was removed, by hand or by who had taken it over"

    def _held_by(self, process: dict[str, Any] | None) -> UsageError:
        return UsageError(held_by(self._whole, process, self._option))

    def _data(self) -> bytes:
        lease = {"process": self._process, "token": self._token, "renewals": self._renewals}
        return json.dumps(lease).encode()

    def _read(self) -> bytes | None:
        try:
            return read_bytes(self._location)
        except FileNotFoundError:
            return None

    def _is_own(self, data: bytes) -> bool:
        return self._token.encode() in data

    def _is_ours(self) -> bool:
        now = self._read()
        return now is not None and self._is_own(now)


def held_by(whole: str, process: dict[str, Any] | None, option: str = "--run-name") -> str:
    """Who does a run or a sweep, and what to do about it, in words; None if it is not known who.

    `whole` says what it is, as `run NAME`, and `option` gives another one its name.
    """
    return f"{whole} is being done by {_in_words(process)}: wait for it or stop it, or choose another {option}"


def _in_words(process: dict[str, Any] | None) -> str:
    return "another process" if process is None else f"process {process['pid']} on {process['host']}"


def _process_of(lease: bytes | None) -> dict[str, Any] | None:
    """The holder; None without a file, or of one that is just being written or whose writer was killed meanwhile."""
    try:
        return None if lease is None else json.loads(lease)["process"]
    except (ValueError, KeyError, TypeError):
        return None
