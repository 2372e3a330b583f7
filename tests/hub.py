"""A hub on the loopback interface, which speaks the file protocol of huggingface.co."""

import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

TOKEN = "hf_let_me_in"
_PATH = re.compile(r"(/api/models|/cdn)?/([^/]+/[^/]+)(?:/(revision|tree|resolve)/([^/]+)(?:/(.+))?)?")
#: Files that the hub keeps on another host.
_LARGE = (".safetensors", ".gguf")


@dataclass
class Hub:
    """A hub with one repository, and how it fails.

    Attributes:
        name: of the repository, with that of its owner.
        branches: folder of each.
        gated: whether its files need the token.
        breaks: how many times more the connection ends in the middle of a file, by the file's name.
        status: what every request is answered with, in place of an answer.
        downloads: files whose content was sent, whole or in part.
    """

    name: str = "org/lm"
    branches: dict[str, Path] = field(default_factory=dict)
    gated: bool = False
    breaks: dict[str, int] = field(default_factory=dict)
    status: int | None = None
    downloads: list[str] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        """What HF_ENDPOINT is set to."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Answers from now on, always at the same port."""
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), type("Handler", (_Handler,), {"hub": self}))
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Refuses connections from now on."""
        self._server.shutdown()
        self._server.server_close()


def commit(branch: str) -> str:
    """The commit that a branch stands for."""
    return hashlib.sha1(branch.encode()).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        hub, asked = self.hub, _PATH.fullmatch(self.path.partition("?")[0])
        host, name, what, revision, file = asked.groups() if asked else (None,) * 5
        branch = next((branch for branch in hub.branches if (revision or "main") in (branch, commit(branch))), None)
        if hub.status is not None:
            self._refuse(hub.status, "", "out of order")
        elif name != hub.name:  # strangers are not told what there is
            self._refuse(401, "RepoNotFound", "Invalid username or password.")
        elif branch is None:
            self._refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        elif what == "resolve":
            self._file(host, branch, str(file))
        elif what == "tree" and file:
            self._refuse(404, "EntryNotFound", f"{file} does not exist")
        else:
            files = [path for path in sorted(hub.branches[branch].iterdir()) if path.is_file()]
            siblings = [{"rfilename": path.name} for path in files]
            about = {"id": name, "sha": commit(branch), "tags": [], "siblings": siblings}
            self._answer(200, {}, json.dumps([_entry(path) for path in files] if what == "tree" else about).encode())

    def _file(self, host: str | None, branch: str, name: str) -> None:
        hub, headers = self.hub, {"X-Repo-Commit": commit(branch)}
        allowed = self.headers["Authorization"] == f"Bearer {TOKEN}"
        if hub.gated and host is None and not allowed:
            return self._refuse(401, "GatedRepo", "Access to it is restricted.", headers)
        path = hub.branches[branch] / name
        if not path.is_file():
            return self._refuse(404, "EntryNotFound", "Entry not found", headers)
        data = path.read_bytes()
        if name.endswith(_LARGE) and host is None:
            headers |= {"X-Linked-Size": str(len(data)), "X-Linked-ETag": f'"{hashlib.sha256(data).hexdigest()}"'}
            return self._answer(302, headers | {"Location": f"http://localhost:{hub.port}/cdn{self.path}"})
        assert host is None or self.headers["Authorization"] is None  # another host must not learn the token
        start, end = int((self.headers["Range"] or "bytes=0-")[6:].split("-")[0]), len(data)
        if start:
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{end}"
        if self.command == "GET":
            hub.downloads.append(name)
            if hub.breaks.get(name, 0) > 0:
                hub.breaks[name] -= 1
                end //= 2
        headers["ETag"] = f'"{hashlib.sha1(data).hexdigest()}"'
        return self._answer(206 if start else 200, headers, data[start:end], len(data) - start)

    def _refuse(self, status: int, code: str, message: str, headers: dict[str, str] | None = None) -> None:
        self._answer(status, {"X-Error-Code": code, "X-Error-Message": message} | (headers or {}))

    def _answer(self, status: int, headers: dict[str, str], data: bytes = b"", length: int | None = None) -> None:
        self.send_response(status)
        for header, value in {**headers, "Content-Length": str(len(data) if length is None else length)}.items():
            self.send_header(header, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)
        self.close_connection = True


def _entry(path: Path) -> dict[str, Any]:
    data = path.read_bytes()
    entry = {"type": "file", "path": path.name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
    if path.name.endswith(_LARGE):
        entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 128}
    return entry
