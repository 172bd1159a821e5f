"""A stand-in for the Hugging Face hub, served from a local directory on 127.0.0.1.

It speaks the part of the hub that huggingface_hub uses to download: repository info, file tree, resolve, and a storage
server on a port of its own, as the real one is another host, that honours ranges. Files can be cut, stalled, altered
and left out; every request is kept. `fetch` runs `hub_driver.py` in a process of its own, because the library reads its
environment once, when it is imported.
"""

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from engine.hub import REPO

ROOT = Path(__file__).resolve().parents[2]
LARGE = (".pt", ".npy")  # what the repository's .gitattributes puts into LFS


@dataclass
class Request:
    """One request that arrived, and how many bytes of a body were sent back."""

    server: str
    method: str
    path: str
    headers: dict[str, str]
    sent_bytes: int = 0


@dataclass
class HubDouble:
    """A repository and how it misbehaves.

    Attributes:
        files: name in the repository -> contents as listed.
        served: contents that differ from the listed ones, by name.
        cut: by name: the connection is closed at this byte, whenever it is reached.
        stalled: by name: nothing more is sent from this byte on, until `resume` is set.
        token: where set, any other token is refused.
        requests: all that arrived.
    """

    files: dict[str, bytes]
    served: dict[str, bytes] = field(default_factory=dict)
    cut: dict[str, int] = field(default_factory=dict)
    stalled: dict[str, int] = field(default_factory=dict)
    token: str | None = None
    requests: list[Request] = field(default_factory=list)
    resume: threading.Event = field(default_factory=threading.Event)
    ports: dict[str, int] = field(default_factory=dict)

    @property
    def commit(self) -> str:
        """The current commit; other contents are another one."""
        return hashlib.sha1(json.dumps(self.tree("")).encode()).hexdigest()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.ports['hub']}"

    def tree(self, folder: str) -> list[dict[str, Any]]:
        """The listing of a folder, as the hub's API gives it."""
        inside = {name: data for name, data in sorted(self.files.items()) if name.startswith(folder)}
        entries: list[dict[str, Any]] = []
        for parent in sorted(
            {str(parent) for name in inside for parent in Path(name).parents} - {".", folder}
        ):
            entries.append({"type": "directory", "path": parent, "oid": git_sha1(parent.encode()), "size": 0})
        for name, data in inside.items():
            entry = {"type": "file", "path": name, "oid": git_sha1(data), "size": len(data)}
            if name.endswith(LARGE):
                entry["lfs"] = {"oid": sha256(data), "size": len(data), "pointerSize": 130}
            entries.append(entry)
        return entries

    def downloads(self) -> list[Request]:
        """The requests that carried contents."""
        return [r for r in self.requests if r.method == "GET" and not r.path.startswith("/api/")]

    def requested_names(self) -> set[str]:
        """The files of the repository that were asked for, by whatever method."""
        marker = f"/{REPO}/resolve/{self.commit}/"
        return {r.path.removeprefix(marker) for r in self.requests if r.path.startswith(marker)}


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def git_sha1(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@contextmanager
def serving(double: HubDouble) -> Iterator[HubDouble]:
    """Serves the double on two free ports of 127.0.0.1."""
    servers = []
    for name in ("hub", "storage"):
        handler = type("Handler", (_Handler,), {"double": double, "name": name})
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        server.daemon_threads = True
        double.ports[name] = server.server_address[1]
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        servers.append(server)
    try:
        yield double
    finally:
        double.resume.set()
        for server in servers:
            server.shutdown()
            server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    double: HubDouble
    name: str

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.request_kept = Request(self.name, self.command, path, dict(self.headers))
        self.double.requests.append(self.request_kept)
        if self.name == "storage":
            (name,) = [n for n, data in self.double.files.items() if f"/{sha256(data)}" == path][:1]
            return self.contents(name, {})
        if self.double.token and self.headers.get("Authorization") != f"Bearer {self.double.token}":
            return self.send(
                401, b'{"error": "Invalid credentials"}', {"X-Error-Message": "Invalid credentials"}
            )
        commit = self.double.commit
        info, resolve = f"/api/models/{REPO}", f"/{REPO}/resolve/{commit}/"
        if path in (info, f"{info}/revision/main", f"{info}/revision/{commit}"):
            siblings = [{"rfilename": name} for name in self.double.files]
            return self.json({"id": REPO, "modelId": REPO, "sha": commit, "siblings": siblings, "tags": []})
        for revision in ("main", commit):
            if path == f"{info}/tree/{revision}" or path.startswith(f"{info}/tree/{revision}/"):
                return self.json(self.double.tree(path.removeprefix(f"{info}/tree/{revision}").strip("/")))
        if path.startswith(resolve) and (name := path.removeprefix(resolve)) in self.double.files:
            return self.resolve(name, commit)
        return self.send(404, b'{"error": "not here"}', {})

    def resolve(self, name: str, commit: str) -> None:
        """Small files at once, large ones at the storage server."""
        data = self.double.files[name]
        if not name.endswith(LARGE):
            return self.contents(name, {"X-Repo-Commit": commit, "ETag": f'"{git_sha1(data)}"'})
        linked = {
            "X-Linked-Etag": f'"{sha256(data)}"',
            "X-Linked-Size": str(len(data)),
            "X-Repo-Commit": commit,
        }
        location = f"http://127.0.0.1:{self.double.ports['storage']}/{sha256(data)}"
        return self.send(302, b"", {**linked, "Location": location})

    def contents(self, name: str, headers: dict[str, str]) -> None:
        """A file from where the range starts, with the faults it has."""
        data = self.double.served.get(name, self.double.files[name])
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").split("-")[0])
        if start and start >= len(data):
            return self.send(416, b"", headers)
        self.send_response(206 if start else 200)
        if start:
            headers = {**headers, "Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"}
        for key, value in {**headers, "Content-Length": str(len(data) - start)}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "HEAD":
            return None
        end = min(self.double.cut.get(name, len(data)), self.double.stalled.get(name, len(data)))
        body = data[start : max(start, end)]
        self.wfile.write(body)
        self.request_kept.sent_bytes = len(body)
        if end < len(data):
            if name in self.double.stalled:
                self.double.resume.wait()
            self.close_connection = True
        return None

    def json(self, document: Any) -> None:
        self.send(200, json.dumps(document).encode(), {"Content-Type": "application/json"})

    def send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@dataclass(frozen=True)
class Outcome:
    """How a fetch ended, and every address that was connected to or looked up."""

    path: Path | None
    error: str
    said: list[str]
    addresses: list[str]


def start_fetch(
    double: HubDouble, home: Path, environment: dict[str, str], **options: Any
) -> subprocess.Popen[str]:
    """Starts `fetch_release` in its own process, with `home` as the user's Hugging Face directory.

    Options are those of `hub_driver.py`.
    """
    kept = {
        k: v
        for k, v in os.environ.items()
        if not k.startswith(("HF_", "HUGGING")) and "proxy" not in k.lower()
    }
    environment = {**kept, "HF_HOME": str(home), "HF_ENDPOINT": double.endpoint, **environment}
    return subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("hub_driver.py")), json.dumps(options)],
        cwd=ROOT,
        env={
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            **environment,
            "PYTHONPATH": str(ROOT),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def fetch(
    double: HubDouble, home: Path, environment: dict[str, str] | None = None, **options: Any
) -> Outcome:
    """`fetch_release` against the double, to its end."""
    process = start_fetch(double, home, environment or {}, **options)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    result = json.loads(out.splitlines()[-1])
    path = Path(result["path"]) if result["path"] else None
    return Outcome(path, result["error"], result["said"], result["addresses"])
