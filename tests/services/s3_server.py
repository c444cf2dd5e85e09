"""An S3 server on this machine for tests, and a proxy before it that fails now and then as real ones do."""

from __future__ import annotations

import http.client
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pyarrow.fs
import pytest
from moto.server import ThreadedMotoServer

BUCKET = "bucket"


@contextmanager
def s3_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A server with one empty bucket; the environment leads to it. Yields its address."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    address = f"{host}:{port}"
    point_to(address, monkeypatch)
    store = pyarrow.fs.S3FileSystem(
        endpoint_override=address, scheme="http", allow_bucket_creation=True, region="us-east-1"
    )
    store.create_dir(BUCKET)
    try:
        yield address
    finally:
        connection = http.client.HTTPConnection(address)  # what is stored belongs to the process, not to the server
        connection.request("POST", "/moto-api/reset")
        assert connection.getresponse().status == 200
        connection.close()
        server.stop()


def point_to(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make this process, and those that it starts, take S3 to be at an address."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{address}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "anyone")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "anything")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@contextmanager
def failing_proxy(target: str, fail_every: int = 0, refused: str = "") -> Iterator[tuple[str, list[int]]]:
    """A server before another that answers every n-th request with 503, and those that name `refused` with 403.

    Yields its address and [requests, failed].
    """
    counts = [0, 0]
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _read_body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length", 0)))
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body

        def _forward(self) -> None:
            body = self._read_body()
            with lock:
                counts[0] += 1
                is_refused = bool(refused) and refused in self.path
                fails = is_refused or (fail_every > 0 and counts[0] % fail_every == 0)
                counts[1] += fails
            if fails:
                self.send_response(403 if is_refused else 503)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            connection = http.client.HTTPConnection(target)
            dropped = ("expect", "transfer-encoding", "content-length", "accept-encoding")
            headers = {name: value for name, value in self.headers.items() if name.lower() not in dropped}
            connection.request(self.command, self.path, body, headers)
            answer = connection.getresponse()
            data = answer.read()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                    self.send_header(name, value)
            length = answer.getheader("Content-Length") if self.command == "HEAD" else str(len(data))
            self.send_header("Content-Length", length or "0")
            self.end_headers()
            self.wfile.write(data)
            connection.close()

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _forward  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}", counts
    finally:
        server.shutdown()
        server.server_close()
