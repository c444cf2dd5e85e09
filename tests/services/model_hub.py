"""A model hub on this machine's loopback, as far as `huggingface_hub` puts folders there and gets them back."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

_FILE = re.compile(r"/(?P<repo>[^/]+/[^/]+)/resolve/[^/]+/(?P<path>.+)")
_API = re.compile(r"/api/models/(?P<repo>[^/]+/[^/]+)/(?P<what>revision|tree|preupload|commit)/[^/]+.*")


class ModelHub:
    """Repositories of files, each with one revision."""

    def __init__(self) -> None:
        self.repos: dict[str, dict[str, bytes]] = {}
        self.uri = ""

    def commit(self, repo: str) -> str:
        """The hash of what a repository holds."""
        total = hashlib.sha1()
        for path, data in sorted(self.repos[repo].items()):
            total.update(f"{path}\0".encode() + data)
        return total.hexdigest()


class _Handler(BaseHTTPRequestHandler):
    hub: ModelHub

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if (file := _FILE.fullmatch(path)) and file["path"] in self.hub.repos.get(file["repo"], {}):
            data = self.hub.repos[file["repo"]][file["path"]]
            headers = {"ETag": f'"{hashlib.sha1(data).hexdigest()}"', "X-Repo-Commit": self.hub.commit(file["repo"])}
            self._answer(200, data, headers)
        elif (asked := _API.fullmatch(path)) and asked["repo"] in self.hub.repos:
            files = self.hub.repos[asked["repo"]]
            if asked["what"] == "tree":
                listed: Any = [
                    {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                    for name, data in files.items()
                ]
            else:
                siblings = [{"rfilename": name} for name in files]
                listed = {"id": asked["repo"], "sha": self.hub.commit(asked["repo"]), "siblings": siblings}
            self._answer(200, json.dumps(listed).encode())
        else:
            self._answer(404, b"{}", {"X-Error-Code": "EntryNotFound"})

    do_HEAD = do_GET  # noqa: N815

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path == "/api/validate-yaml":
            self._answer(200, b'{"errors": [], "warnings": []}')
            return
        asked = _API.fullmatch(unquote(urlsplit(self.path).path))
        assert asked is not None, self.path
        if asked["what"] == "preupload":
            modes = [
                {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                for file in json.loads(body)["files"]
            ]
            self._answer(200, json.dumps({"files": modes}).encode())
            return
        files = self.hub.repos.setdefault(asked["repo"], {})
        for line in map(json.loads, body.decode().splitlines()):
            if line["key"] == "file":
                files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
        commit = self.hub.commit(asked["repo"])
        url = f"{self.hub.uri}/{asked['repo']}/commit/{commit}"
        self._answer(200, json.dumps({"success": True, "commitOid": commit, "commitUrl": url}).encode())

    def _answer(self, status: int, data: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def model_hub() -> Iterator[ModelHub]:
    """A hub that answers as long as it is used."""
    hub = ModelHub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.uri = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
