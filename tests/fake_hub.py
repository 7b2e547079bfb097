"""A hub on this machine: enough of its HTTP interface for the real client, with faults to order."""

import hashlib
import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
_PATIENCE = 60  # seconds
SMALL = 2000  # bytes from which on a file is a large one, known by its SHA-256


@dataclass
class FakeHub:
    """What it holds and how it behaves.

    Attributes:
        repos: id -> file name -> content.
        gated: ids that want a token.
        token: the one that opens them.
        barred: ids that no token opens, since their licence was not accepted.
        moved: id -> the one that it has now; asked for the old one, the hub sends the client on.
        cut: file name -> after how many bytes the connection breaks, once.
        garbled: file names whose first answer is wrong.
        held: file name -> what has to happen before more than its first bytes are sent.
        ranges: whether it can send a file from the middle.
        requests: method, path and Range of all requests.
        bytes: content bytes sent.
    """

    repos: dict = field(default_factory=dict)
    gated: set = field(default_factory=set)
    token: str = "secret"
    barred: set = field(default_factory=set)
    moved: dict = field(default_factory=dict)
    cut: dict = field(default_factory=dict)
    garbled: set = field(default_factory=set)
    held: dict = field(default_factory=dict)
    ranges: bool = True
    status: int = 0
    requests: list = field(default_factory=list)
    bytes: int = 0

    def add_folder(self, repo: str, folder: Path, prefix: str = "") -> None:
        files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
        held = self.repos.setdefault(repo, {})
        held.update({prefix + name: path.read_bytes() for name, path in files.items()})

    @contextmanager
    def serve(self):
        server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            server.server_close()


def sibling(name: str, content: bytes) -> dict:
    row = {"rfilename": name, "size": len(content), "blobId": hashlib.sha1(content).hexdigest()}
    if len(content) >= SMALL:
        sha = hashlib.sha256(content).hexdigest()
        row["lfs"] = {"sha256": sha, "size": len(content), "pointerSize": 100}
    return row


class _Handler(BaseHTTPRequestHandler):
    hub: FakeHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_GET(self):
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append((path, self.headers.get("Range", "")))
        if self.hub.status:
            return self._refuse(self.hub.status, "")
        if path.startswith("/api/models/"):
            repo = path.removeprefix("/api/models/").split("/revision/")[0]
            return self._listing(repo)
        repo, _, rest = path.lstrip("/").partition("/resolve/")
        return self._file(repo, rest.partition("/")[2])

    def _closed(self, repo) -> bool:
        if repo in self.hub.moved:
            self._send_on(self.path.replace(repo, self.hub.moved[repo], 1))
        elif repo in self.hub.barred:
            self._refuse(403, "GatedRepo")
        elif repo not in self.hub.repos:
            self._refuse(404, "RepoNotFound")
        elif repo in self.hub.gated and self.headers.get("Authorization") != f"Bearer {self.hub.token}":
            self._refuse(401, "GatedRepo")
        else:
            return False
        return True

    def _listing(self, repo):
        if self._closed(repo):
            return
        siblings = [sibling(name, content) for name, content in sorted(self.hub.repos[repo].items())]
        self._send(200, json.dumps({"id": repo, "sha": COMMIT, "siblings": siblings}).encode(), "application/json")

    def _file(self, repo, name):
        if self._closed(repo):
            return
        if name not in self.hub.repos[repo]:
            self._refuse(404, "EntryNotFound")
            return
        content, start = self.hub.repos[repo][name], 0
        wanted = self.headers.get("Range")
        if wanted and self.hub.ranges:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
        body = content[start:]
        if name in self.hub.garbled:
            self.hub.garbled.discard(name)
            body = bytes(len(body))
        cut = self.hub.cut.pop(name, None)
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        sent = body if cut is None else body[:cut]
        for at in range(0, len(sent), 4096):
            self.wfile.write(sent[at : at + 4096])
            self.hub.bytes += len(sent[at : at + 4096])
            if name in self.hub.held:
                self.wfile.flush()
                self.hub.held[name].wait(_PATIENCE)
        if cut is not None:
            self.wfile.flush()
            self.close_connection = True
            self.connection.close()

    def _send_on(self, path):
        self.send_response(307)  # as the hub does for a repository that was renamed
        self.send_header("Location", path)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _refuse(self, status, code):
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _send(self, status, body, kind):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
