"""A real MLflow server on this machine's loopback, which tests stop and start again."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path


class MlflowServer:
    """One worker process over a database in a folder; always at the same address."""

    DATABASE = "server.db"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Returns once it answers."""
        program = (
            f"{sys.executable} -m mlflow server --workers 1 --host 127.0.0.1 --port {self._port} "
            f"--backend-store-uri sqlite:///{self._folder}/{self.DATABASE} "
            f"--artifacts-destination {self._folder}/artifacts"
        )
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                program.split(),
                env=os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(f"{self.uri}/health", timeout=5).close()
                return
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                assert self._process.poll() is None, (self._folder / "server.log").read_text()
                assert time.monotonic() < deadline, "the MLflow server did not start"
                time.sleep(0.1)

    def stop(self) -> None:
        """At once, as a machine that loses its power."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)  # a session of its own: the server and its workers
            self._process.wait()
            self._process = None
