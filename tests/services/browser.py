"""A real browser for tests of pages: Chromium without a window, told what to do over a pipe (DevTools protocol)."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
HOW_TO_INSTALL = "no browser: install Chromium (apt install chromium)"
QUIET = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--remote-debugging-pipe",
)  # fmt: skip
LONGEST_SECONDS = 60.0


class Browser:
    """One tab. `requests` holds the URLs that its pages asked for, `errors` what their scripts and policies threw."""

    def __init__(self, process: subprocess.Popen[bytes], commands: int, answers: int) -> None:
        self.process, self._commands, self._answers = process, commands, answers
        self._received = b""
        self._number = 0
        self._session: str | None = None
        self.requests: list[str] = []
        self.errors: list[str] = []
        target = self.tell("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.tell("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.tell(f"{domain}.enable")

    def tell(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command, and give what it answers; events on the way are noted."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while True:
            told = self._receive()
            if told.get("id") == self._number:
                assert "error" not in told, told
                return told["result"]

    def _receive(self) -> dict[str, Any]:
        until = time.monotonic() + LONGEST_SECONDS
        while b"\0" not in self._received:
            assert time.monotonic() < until, "the browser does not answer"
            piece = os.read(self._answers, 1 << 20)
            assert piece, "the browser has ended"
            self._received += piece
        message, _, self._received = self._received.partition(b"\0")
        told = json.loads(message)
        params = told.get("params", {})
        if told.get("method") == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"][:200])
        elif told.get("method") == "Runtime.exceptionThrown":
            self.errors.append(str(params["exceptionDetails"]))
        elif told.get("method") == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.errors.append(params["entry"]["text"])
        return told

    def show(self, page: Path, width: int, height: int = 900, *, dark: bool = False) -> None:
        """Load a page in a window of that size, and wait for all of it."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.tell("Emulation.setEmulatedMedia", features=[scheme])
        phone = width < 600
        self.tell("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)
        self.tell("Page.navigate", url=page.absolute().as_uri())
        self.evaluate(
            "new Promise(done => document.readyState === 'complete' ? done() : addEventListener('load', () => done()))"
        )

    def evaluate(self, expression: str) -> Any:
        """The value of an expression in the page, awaited if it is a promise."""
        told = self.tell("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in told, told
        return told["result"].get("value")


@contextmanager
def open_browser(folder: Path) -> Iterator[Browser]:
    """A browser whose files lie in a folder, stopped in the end."""
    assert CHROMIUM is not None, HOW_TO_INSTALL
    pipes = [os.pipe() for _ in range(2)]
    # Chromium reads commands from descriptor 3 and answers on 4, which the pipes' own ends must not stand in for.
    child_reads, child_writes = (fcntl.fcntl(fd, fcntl.F_DUPFD, 10) for fd in (pipes[0][0], pipes[1][1]))

    def as_three_and_four() -> None:
        os.dup2(child_reads, 3)
        os.dup2(child_writes, 4)

    with (folder / "chromium.log").open("wb") as log:
        process = subprocess.Popen(
            [CHROMIUM, *QUIET, f"--user-data-dir={folder / 'chromium'}"],
            stdout=log, stderr=log, preexec_fn=as_three_and_four, pass_fds=(3, 4, child_reads, child_writes),
        )  # fmt: skip
    for fd in (pipes[0][0], pipes[1][1], child_reads, child_writes):
        os.close(fd)
    try:
        yield Browser(process, pipes[0][1], pipes[1][0])
    finally:
        os.close(pipes[0][1])  # without a pipe it ends
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        os.close(pipes[1][0])
