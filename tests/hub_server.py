"""A small Hub for tests: speaks as much of its HTTP protocol as huggingface_hub's unmodified client needs.

    with HubServer() as hub:
        commit = hub.commit("owner/model", folder)
        subprocess.run([…], env=hub.environment(tmp_path / "home"))

Routes are a table of method, pattern and handler. Downloads are here, uploads in hub_uploads.py. The objects of all
repos lie in memory.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

from hub_objects import LARGE, Answer, Blob, HangUp, Repo
from hub_uploads import UPLOAD_ROUTES, Uploads


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Says nothing of clients that were killed: tests kill them."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class HubServer:
    """The server, on a free port of this machine, while the `with` block lasts."""

    token = "hf_the_one_that_may"

    def __init__(self) -> None:
        self.repos: dict[tuple[str, str], Repo] = {}
        self.requests: list[tuple[str, str, str | None]] = []  # method, path, Range
        self._lock = threading.Lock()
        self._breaks: dict[str, int] = {}
        self._failures: Counter[str] = Counter()
        self.uploads = Uploads()
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def commit(
        self,
        name: str,
        folder: Path,
        kind: str = "models",
        branch: str = "main",
        gated: bool = False,
        sizes: dict[str, int] | None = None,
    ) -> str:
        """Makes a folder's content a new commit of a repo, moves the branch there and gives the commit.

        kind: models or datasets; sizes: sizes to claim, by path, in place of the true ones.
        """
        files = {}
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            content = path.read_bytes()
            name_in_repo = path.relative_to(folder).as_posix()
            size = (sizes or {}).get(name_in_repo, len(content))
            files[name_in_repo] = Blob(content, path.suffix in LARGE, size)
        repo = self.repos.setdefault((kind, name), Repo())
        repo.gated = gated
        return repo.add(files, branch, "A commit of the test's", "someone-else", repo.branches.get(branch))

    def break_once(self, path: str, after: int) -> None:
        """The next GET of a file ends with the connection, after so many bytes."""
        self._breaks[path] = after

    def fail_once(self, path: str) -> None:
        """The next GET of a file is answered with 500."""
        self._failures[path] += 1

    def take_break(self, path: str) -> int | None:
        """How many bytes of this answer to send before the connection ends; None for all."""
        with self._lock:
            return self._breaks.pop(path, None)

    def take_failure(self, path: str) -> bool:
        """Whether to answer 500 this time."""
        with self._lock:
            self._failures[path] -= 1
            return self._failures[path] >= 0

    def downloads(self) -> list[str]:
        """Paths of the files that were asked for by GET since the last call, sorted."""
        with self._lock:
            taken, self.requests = self.requests, []
        return sorted(
            path.partition("/resolve/")[2].partition("/")[2]
            for method, path, _ in taken
            if method == "GET" and "/resolve/" in path
        )

    def environment(self, home: Path, **more: str) -> dict[str, str]:
        """The environment of a process whose Hub this is, with its cache in `home`."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("HF_", "HUGGING", "TRANSFORMERS_"))
        }
        return kept | {
            "HF_ENDPOINT": self.endpoint,
            "HF_HOME": str(home),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
            **more,
        }


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: HubServer

    def log_message(self, *_: object) -> None:
        """Keeps the tests' output quiet."""

    def do_POST(self) -> None:
        self._route("POST")

    def do_PUT(self) -> None:
        self._route("PUT")

    def do_GET(self) -> None:
        self._route("GET")

    def do_HEAD(self) -> None:
        self._route("HEAD")

    def _route(self, method: str) -> None:
        url = urlsplit(self.path)
        with self.hub._lock:
            self.hub.requests.append((method, unquote(url.path), self.headers.get("Range")))
        self.query = parse_qs(url.query)
        self.body = self._read_body() if method in ("POST", "PUT") else b""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            try:
                for methods, pattern, handler in _ROUTES:
                    if method in methods and (match := pattern.fullmatch(url.path)):
                        handler(self, **{key: unquote(value or "") for key, value in match.groupdict().items()})
                        return
                raise Answer(404, "", f"no such route: {url.path}")
            except HangUp:
                self.close_connection = True
            except Answer as answer:
                body = json.dumps({"error": answer.message}).encode()
                self.send(answer.status, body, {"X-Error-Code": answer.code, "X-Error-Message": answer.message})

    def _read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def authorised(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {self.hub.token}"

    def send(self, status: int, body: bytes, headers: dict[str, str], length: int | None = None) -> None:
        """Sends an answer; length: what the header says, the body's own by default."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def send_json(self, value: Any) -> None:
        self.send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def repo(self, kind: str, name: str, revision: str) -> tuple[Repo, str]:
        repo = self.hub.repos.get((kind, name))
        if repo is None or (repo.private and not self.authorised()):
            raise Answer(404, "RepoNotFound", "Repository not found")
        commit = repo.resolve(revision or "main")
        if commit is None:
            raise Answer(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return repo, commit

    def info(self, kind: str, name: str, revision: str) -> None:
        """GET /api/models/NAME[/revision/REVISION][?blobs=true]: as on the Hub, anyone may see it of gated repos."""
        repo, commit = self.repo(kind, name, revision)
        siblings = []
        for path, blob in repo.commits[commit].items():
            sibling: dict[str, Any] = {"rfilename": path}
            if "blobs" in self.query:
                sibling |= {"size": blob.claimed, "blobId": blob.git}
                if blob.large:
                    sibling["lfs"] = {"size": blob.claimed, "sha256": blob.sha256, "pointerSize": 134}
            siblings.append(sibling)
        self.send_json({"id": name, "sha": commit, "private": repo.private, "gated": repo.gated, "siblings": siblings})

    def tree(self, kind: str, name: str, revision: str, folder: str) -> None:
        """GET /api/models/NAME/tree/REVISION[/FOLDER][?recursive=true]."""
        repo, commit = self.repo(kind, name, revision)
        prefix = f"{folder}/" if folder else ""
        entries: dict[str, dict[str, Any]] = {}
        for path, blob in repo.commits[commit].items():
            if not path.startswith(prefix):
                continue
            parts = path.removeprefix(prefix).split("/")
            for depth in range(1, len(parts)):
                parent = prefix + "/".join(parts[:depth])
                entries[parent] = {"type": "directory", "path": parent, "oid": "0" * 40, "size": 0}
            entries[path] = {"type": "file", "path": path, "oid": blob.git, "size": blob.claimed}
            if blob.large:
                entries[path]["lfs"] = {"oid": blob.sha256, "size": blob.claimed, "pointerSize": 134}
        if folder and not entries:
            raise Answer(404, "EntryNotFound", f"{folder} does not exist on {revision}")
        deep = self.query.get("recursive", ["false"])[0].lower() in ("true", "1")
        self.send_json(
            [entry for path, entry in sorted(entries.items()) if deep or "/" not in path.removeprefix(prefix)]
        )

    def resolve(self, kind: str, name: str, revision: str, path: str) -> None:
        """HEAD and GET of a file, with ranges."""
        repo, commit = self.repo(kind.strip("/") or "models", name, revision)
        if repo.gated and not self.authorised():
            raise Answer(403, "GatedRepo", f"Access to {name} is restricted")
        blob = repo.commits[commit].get(path)
        if blob is None:
            raise Answer(404, "EntryNotFound", f"{path} does not exist on {revision}")
        if self.command == "GET" and self.hub.take_failure(path):
            raise Answer(500, "", "Internal error")
        headers = {"X-Repo-Commit": commit, "ETag": f'"{blob.etag}"', "Accept-Ranges": "bytes"}
        if blob.large:
            headers |= {"X-Linked-Etag": f'"{blob.etag}"', "X-Linked-Size": str(blob.claimed)}
        if self.command == "HEAD":
            self.send(200, b"", headers, length=blob.claimed)
            return
        status, body = 200, blob.content
        if match := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            first, last = int(match[1]), min(int(match[2] or len(body)), len(body) - 1)
            if first >= len(body):
                raise Answer(416, "", "Range not satisfiable")
            headers["Content-Range"] = f"bytes {first}-{last}/{len(body)}"
            status, body = 206, body[first : last + 1]
        after = self.hub.take_break(path)
        if after is not None:
            self.send(status, body[:after], headers, length=len(body))
            self.close_connection = True
            return
        self.send(status, body, headers)


def _handler(hub: HubServer) -> type[_Handler]:
    return type("Handler", (_Handler,), {"hub": hub})


_API = r"/api/(?P<kind>models|datasets)/(?P<name>[^/]+/[^/]+)"
_ROUTES = [
    (("GET",), re.compile(rf"{_API}(?:/revision/(?P<revision>[^/]+))?"), _Handler.info),
    (("GET",), re.compile(rf"{_API}/tree/(?P<revision>[^/]+)(?:/(?P<folder>.+))?"), _Handler.tree),
    (
        ("GET", "HEAD"),
        re.compile(r"/(?P<kind>datasets/)?(?P<name>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)"),
        _Handler.resolve,
    ),
    *UPLOAD_ROUTES,
]
