"""A stand-in for the Hugging Face hub: a real HTTP server with the few routes that push and pull ask, on this machine.

It keeps repositories in memory, a commit being all their files. Files travel inside the commit, as the hub takes small
ones; its storage of large files (LFS, Xet) is huggingface_hub's own affair and is not here.
"""

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

TOKEN, OWNER = "hf_of_me", "me"


@dataclass
class Repository:
    """Commits, the newest last, each all files by their names."""

    private: bool = False
    gated: bool = False
    commits: list[tuple[str, dict[str, bytes]]] = field(default_factory=list)

    def commit(self, changed: dict[str, bytes]) -> str:
        """Add one; its name."""
        files = {**(self.commits[-1][1] if self.commits else {}), **changed}
        digest = hashlib.sha1(repr((len(self.commits), sorted(files.items()))).encode()).hexdigest()
        self.commits.append((digest, files))
        return digest


class Hub(ThreadingHTTPServer):
    """The server; `repositories` are what it has, `asked` the requests in their order."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repositories: dict[str, Repository] = {}
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class RefusedError(Exception):
    """An answer that is an error of the hub."""

    def __init__(self, status: int, code: str = "") -> None:
        super().__init__(status)
        self.status, self.code = status, code


class Handler(BaseHTTPRequestHandler):
    """One request."""

    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Nothing is printed."""

    def do_GET(self) -> None:
        self.answer()

    def do_HEAD(self) -> None:
        self.answer()

    def do_POST(self) -> None:
        self.answer()

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = self.path.partition("?")[0]
        self.server.asked.append(f"{self.command} {path}")
        try:
            token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
            if token not in ("", TOKEN):
                raise RefusedError(401)
            for pattern, route in ROUTES.items():
                if match := re.fullmatch(pattern, path):
                    self.send(200, *route(self, token == TOKEN, body, *match.groups()))
                    return
            raise RefusedError(404, "EntryNotFound")
        except RefusedError as refused:
            self.send(refused.status, b'{"error": "no"}', {"X-Error-Code": refused.code})

    def send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def found(self, known: bool, name: str) -> Repository:
        repository = self.server.repositories.get(name)
        if repository is None or (repository.private and not known):
            raise RefusedError(404 if known else 401, "RepoNotFound")
        if repository.gated:
            raise RefusedError(403, "GatedRepo")
        return repository

    def state(self, known: bool, name: str, revision: str) -> tuple[str, dict[str, bytes]]:
        repository = self.found(known, name)
        named = {digest: (digest, files) for digest, files in repository.commits}
        if revision in ("", "main"):
            return repository.commits[-1] if repository.commits else ("0" * 40, {})
        if revision not in named:
            raise RefusedError(404, "RevisionNotFound")
        return named[revision]

    def info(self, known: bool, _: bytes, name: str, revision: str | None) -> tuple[bytes, dict[str, str]]:
        digest, files = self.state(known, name, revision or "")
        siblings = [{"rfilename": file} for file in files]
        private = self.server.repositories[name].private
        return as_json({"id": name, "modelId": name, "sha": digest, "private": private, "siblings": siblings})

    def create(self, known: bool, body: bytes) -> tuple[bytes, dict[str, str]]:
        said = json.loads(body)
        name = f"{said.get('organization') or OWNER}/{said['name']}"
        if not known or not name.startswith(f"{OWNER}/"):
            raise RefusedError(403)
        if name in self.server.repositories:
            raise RefusedError(409)
        private = said.get("visibility") == "private" or bool(said.get("private"))  # newer and older clients
        self.server.repositories[name] = Repository(private)
        return as_json({"url": f"{self.server.url}/{name}", "name": name})

    def preupload(self, known: bool, body: bytes, name: str) -> tuple[bytes, dict[str, str]]:
        self.found(known, name)
        files = [{"path": file["path"], "uploadMode": "regular"} for file in json.loads(body)["files"]]
        return as_json({"files": [{**file, "shouldIgnore": False} for file in files]})

    def commit(self, known: bool, body: bytes, name: str) -> tuple[bytes, dict[str, str]]:
        repository = self.found(known, name)
        lines = [json.loads(line) for line in body.splitlines() if line]
        files = {
            line["value"]["path"]: base64.b64decode(line["value"]["content"]) for line in lines if line["key"] == "file"
        }
        assert {line["key"] for line in lines} == {"header", "file"}
        digest = repository.commit(files)
        return as_json({"success": True, "commitOid": digest, "commitUrl": f"{self.server.url}/{name}/commit/{digest}"})

    def file(self, known: bool, _: bytes, name: str, revision: str, path: str) -> tuple[bytes, dict[str, str]]:
        digest, files = self.state(known, name, revision)
        if path not in files:
            raise RefusedError(404, "EntryNotFound")
        content = files[path]
        etag = f'"{hashlib.sha1(content).hexdigest()}"'
        return content, {"X-Repo-Commit": digest, "ETag": etag, "Accept-Ranges": "bytes"}

    def validate(self, known: bool, body: bytes) -> tuple[bytes, dict[str, str]]:
        assert known
        assert json.loads(body)["repoType"] == "model"
        return as_json({"errors": [], "warnings": []})


def as_json(value: Any) -> tuple[bytes, dict[str, str]]:
    return json.dumps(value).encode(), {"Content-Type": "application/json"}


NAME = r"([\w.-]+/[\w.-]+)"
ROUTES = {
    "/api/repos/create": Handler.create,
    "/api/validate-yaml": Handler.validate,
    f"/api/models/{NAME}/preupload/main": Handler.preupload,
    f"/api/models/{NAME}/commit/main": Handler.commit,
    f"/api/models/{NAME}(?:/revision/([^/]+))?": Handler.info,
    f"/{NAME}/resolve/([^/]+)/(.+)": Handler.file,
}


@contextmanager
def running() -> Iterator[Hub]:
    """A hub that answers until the block ends."""
    hub = Hub()
    thread = Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        thread.join()
        hub.server_close()
