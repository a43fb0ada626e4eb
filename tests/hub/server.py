"""A small Hub on loopback: repositories in memory, the requests that huggingface_hub makes, tokens with rights, faults on demand."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote

LFS_FROM = 4000  # bytes; parquet and safetensors are always large files
Answer = tuple[int, Any, dict[str, str]]
_REPO = r"/api/(?P<kind>datasets|models)/(?P<id>[\w.-]+/[\w.-]+)"


@dataclass
class Repo:
    """A repository: its files by path, and how often it was committed to."""

    private: bool
    files: dict[str, bytes] = field(default_factory=dict)
    large: set[str] = field(default_factory=set)
    commits: list[str] = field(default_factory=list)


class HubServer:
    """The server; a context manager.

    `fault(method, path)` returns a status to answer with instead, -1 to hang up, or status, body (JSON, or text as it is) and headers.
    """

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.lfs: dict[str, bytes] = {}
        self.tokens = {"writer": "write", "reader": "read"}
        self.requests: list[tuple[str, str]] = []
        self.fault: Callable[[str, str], int | Answer | None] = lambda method, path: None
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def uploads(self) -> int:
        """Large files that were sent."""
        return sum(method == "PUT" for method, _ in self.requests)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *args: Any) -> None:
                return None

            def do_GET(self) -> None:
                self._serve("GET")

            def do_POST(self) -> None:
                self._serve("POST")

            def do_PUT(self) -> None:
                self._serve("PUT")

            def do_HEAD(self) -> None:
                self._serve("HEAD")

            def _serve(self, method: str) -> None:
                path, _, query = self.path.partition("?")
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                hub.requests.append((method, path))
                fault = hub.fault(method, path)
                if fault == -1:
                    self.connection.close()
                    self.close_connection = True
                    return
                if isinstance(fault, tuple):
                    return self._reply(*fault)
                if fault is not None:
                    return self._reply(fault, {"error": "on demand"})
                if path.startswith("/lfs/"):  # a storage address needs no token
                    hub.lfs[path.rpartition("/")[2]] = body
                    return self._reply(200, {})
                token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
                rights = hub.tokens.get(token)
                if rights is None:
                    return self._reply(401, {"error": "Invalid credentials"})
                if rights == "read" and method == "POST" and path != "/api/validate-yaml":
                    return self._reply(403, {"error": "Forbidden"})
                found = hub.file(path)
                self._reply(*found) if found else self._reply(*hub.answer(method, path, body, query))

            def _reply(self, status: int, data: Any, headers: dict[str, str] | None = None) -> None:
                text = (
                    data.encode()
                    if isinstance(data, str)
                    else data
                    if isinstance(data, bytes)
                    else json.dumps(data).encode()
                )
                self.send_response(status)
                for name, value in (headers or {}).items():
                    self.send_header(name, value)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(text)

        return Handler

    def file(self, path: str) -> Answer | None:
        """The reply to a reader who asks for a file of a data set or a model; None for other requests."""
        asked = re.fullmatch(
            r"/(?P<kind>datasets/)?(?P<id>[\w.-]+/[\w.-]+)/resolve/(?P<at>[^/]+)/(?P<file>.+)", path
        )
        repo = self.repos.get(f"{'datasets' if asked['kind'] else 'models'}/{asked['id']}") if asked else None
        if asked is None or repo is None:
            return None
        headers = {"X-Repo-Commit": f"{len(repo.commits):040x}"}
        data = repo.files.get(unquote(asked["file"]))
        if data is None:
            return 404, {"error": "Entry not found"}, {**headers, "X-Error-Code": "EntryNotFound"}
        return 200, data, {**headers, "ETag": f'"{hashlib.sha256(data).hexdigest()}"'}

    def answer(self, method: str, path: str, body: bytes, query: str = "") -> tuple[int, Any]:
        """The reply to a request of a writer."""
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        batch = re.fullmatch(r"/(?:datasets/)?(?P<id>[\w.-]+/[\w.-]+)\.git/info/lfs/objects/batch", path)
        if batch:
            return 200, {
                "transfer": "basic",
                "objects": [self._lfs_object(o) for o in json.loads(body)["objects"]],
            }
        found = re.fullmatch(_REPO + r"(?P<rest>/.*)?", path)
        if not found:
            return 404, {"error": f"nothing at {path}"}
        repo = self.repos.get(f"{found['kind']}/{found['id']}")
        if repo is None:
            return 404, {"error": "Repository not found"}
        rest = found["rest"] or ""
        if rest.startswith("/preupload/"):
            return 200, {"files": [self._mode(f) for f in json.loads(body)["files"]]}
        if rest.startswith("/tree/"):
            folder = unquote(rest).split("/", 3)[3] + "/" if rest.count("/") > 2 else ""
            return 200, self._tree(repo, folder, recursive="recursive=true" in query.lower())
        if rest.startswith("/paths-info/"):
            return 200, [self._entry(repo, name) for name in json.loads(body)["paths"] if name in repo.files]
        if rest.startswith("/commit/"):
            return self._commit(found["kind"], found["id"], repo, body)
        if rest == "" or rest.startswith("/revision/"):
            return 200, {
                "id": found["id"],
                "sha": f"{len(repo.commits):040x}",
                "private": repo.private,
                "siblings": [{"rfilename": name} for name in sorted(repo.files)],
                "tags": [],
            }
        return 404, {"error": f"nothing at {path}"}

    def _create(self, asked: dict[str, Any]) -> tuple[int, Any]:
        kind = f"{asked.get('type') or 'model'}s"
        name = f"{asked['organization']}/{asked['name']}"
        key = f"{kind}/{name}"
        url = f"{self.url}/{'datasets/' if kind == 'datasets' else ''}{name}"
        if key in self.repos:
            return 409, {"error": "You already created this repo", "url": url}
        private = asked.get("visibility") == "private" or asked.get("private") is True
        self.repos[key] = Repo(private)
        return 200, {"url": url, "name": name}

    def _lfs_object(self, asked: dict[str, Any]) -> dict[str, Any]:
        answer = {"oid": asked["oid"], "size": asked["size"]}
        if asked["oid"] not in self.lfs:
            answer["actions"] = {"upload": {"href": f"{self.url}/lfs/{asked['oid']}"}}
        return answer

    def _mode(self, asked: dict[str, Any]) -> dict[str, Any]:
        large = asked["size"] >= LFS_FROM or asked["path"].endswith((".parquet", ".safetensors"))
        return {"path": asked["path"], "uploadMode": "lfs" if large else "regular", "shouldIgnore": False}

    def _tree(self, repo: Repo, folder: str, *, recursive: bool) -> list[dict[str, Any]]:
        inside = [name for name in sorted(repo.files) if name.startswith(folder)]
        if recursive:
            return [self._entry(repo, name) for name in inside]
        folders = {
            folder + name[len(folder) :].split("/")[0] for name in inside if "/" in name[len(folder) :]
        }
        files = [self._entry(repo, name) for name in inside if "/" not in name[len(folder) :]]
        return [
            {"type": "directory", "path": name, "oid": "0" * 40, "size": 0} for name in sorted(folders)
        ] + files

    def _entry(self, repo: Repo, name: str) -> dict[str, Any]:
        data = repo.files[name]
        sha1 = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
        entry: dict[str, Any] = {"type": "file", "path": name, "size": len(data), "oid": sha1}
        if name in repo.large:
            entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
        return entry

    def _commit(self, kind: str, name: str, repo: Repo, body: bytes) -> tuple[int, Any]:
        header = ""
        for line in body.splitlines():
            row = json.loads(line)
            value = row["value"]
            if row["key"] == "header":
                header = value["summary"]
            elif row["key"] == "file":
                repo.files[value["path"]] = base64.b64decode(value["content"])
                repo.large.discard(value["path"])
            elif row["key"] == "lfsFile":
                if value["oid"] not in self.lfs:
                    return 400, {"error": f"no such object: {value['path']}"}
                repo.files[value["path"]] = self.lfs[value["oid"]]
                repo.large.add(value["path"])
            elif row["key"] == "deletedFile":
                del repo.files[value["path"]]
        repo.commits.append(header)
        prefix = "datasets/" if kind == "datasets" else ""
        oid = f"{len(repo.commits):040x}"
        return 200, {
            "success": True,
            "commitOid": oid,
            "commitUrl": f"{self.url}/{prefix}{name}/commit/{oid}",
        }
