"""A proxy before a server that carries out what it is asked, and sometimes does not say so."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Faults:
    """What to do to the next requests."""

    unconfirmed: str = ""
    """The next request whose path ends so is carried out, and its connection then cut without an answer."""
    status: int = 0
    """All requests are answered by this, and not carried out."""
    carried_out: list[str] = field(default_factory=list)
    """Paths of the requests that reached the server."""


@contextmanager
def faulty_proxy(target: str) -> Iterator[tuple[str, Faults]]:
    """The proxy's own URI, and its faults, which may be changed at any time. `target` is HOST:PORT."""
    faults = Faults()
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def _forward(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if faults.status:
                self._answer(faults.status, b"")
                return
            connection = http.client.HTTPConnection(target)
            headers = {name: value for name, value in self.headers.items() if name.lower() != "accept-encoding"}
            connection.request(self.command, self.path, body, headers)
            answer = connection.getresponse()
            data = answer.read()
            connection.close()
            path = self.path.partition("?")[0]
            with lock:
                faults.carried_out.append(path)
                cut = bool(faults.unconfirmed) and path.endswith(faults.unconfirmed)
                if cut:
                    faults.unconfirmed = ""
            if cut:
                self.close_connection = True
                return
            self._answer(answer.status, data, answer.getheader("Content-Type"))

        def _answer(self, status: int, data: bytes, kind: str | None = None) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind or "text/plain")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_PUT = do_POST = do_PATCH = do_DELETE = _forward  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", faults
    finally:
        server.shutdown()
        server.server_close()
