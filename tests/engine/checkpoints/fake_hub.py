"""A hub on this machine: the folder it is given is what it has to offer.

Speaks as much of Hugging Face's and of ModelScope's HTTP interface as their clients need to list
and to fetch the files of one model.
"""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

MODEL = "somebody/something"
COMMIT = "c0ffee" + "0" * 34
HALF = 2


class FakeHub(ThreadingHTTPServer):
    """`breaks` holds the names of files whose first answer stops in the middle."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Exchange)
        self.folder = folder
        self.breaks: set[str] = set()
        self.fetched: list[tuple[str, int]] = []
        """Name and first byte of each file that was asked for."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def paths(self) -> list[str]:
        found = (path for path in sorted(self.folder.rglob("*")) if path.is_file())
        return [str(path.relative_to(self.folder)) for path in found]

    def digest(self, path: str) -> str:
        return hashlib.sha256((self.folder / path).read_bytes()).hexdigest()

    def size(self, path: str) -> int:
        return (self.folder / path).stat().st_size


class Exchange(BaseHTTPRequestHandler):
    server: FakeHub

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        url = urlsplit(self.path)
        query = parse_qs(url.query)
        match url.path.removeprefix("/api/v1").strip("/").split("/"):
            case ["api", "models", *name, "revision", "main"] if "/".join(name) == MODEL:
                self.send_json(self.huggingface_info())
            case ["api", "models", *name] if "/".join(name) == MODEL:
                self.send_json(self.huggingface_info())
            case ["api", "models", *name, "tree", _] if "/".join(name) == MODEL:
                self.send_json(self.huggingface_tree())
            case [owner, name, "resolve", _, *path] if f"{owner}/{name}" == MODEL:
                self.send_path("/".join(path), body)
            case ["models", *name, "repo", "files"] if "/".join(name) == MODEL:
                self.send_json({"Code": 200, "Success": True, "Data": self.modelscope_files()})
            case ["models", *name, "repo"] if "/".join(name) == MODEL:
                self.send_path(query["FilePath"][0], body)
            case ["models", *name, "resolve", _, path] if "/".join(name) == MODEL:
                self.send_path(path, body)
            case _:
                self.send_json(
                    {"error": "not found", "Code": 404, "Message": "not found"},
                    HTTPStatus.NOT_FOUND,
                )

    def huggingface_info(self) -> dict[str, Any]:
        hub = self.server
        files = [{"rfilename": path, "size": hub.size(path)} for path in hub.paths()]
        return {"id": MODEL, "sha": COMMIT, "siblings": files}

    def huggingface_tree(self) -> list[dict[str, Any]]:
        hub = self.server
        return [
            {"type": "file", "path": path, "size": hub.size(path), "oid": hub.digest(path)}
            for path in hub.paths()
        ]

    def modelscope_files(self) -> dict[str, Any]:
        hub = self.server
        return {
            "Files": [
                {"Path": path, "Size": hub.size(path), "Sha256": hub.digest(path), "Type": "blob"}
                for path in hub.paths()
            ]
        }

    def send_json(self, value: Any, status: int = 200, code: str = "RepoNotFound") -> None:
        content = json.dumps(value).encode()
        self.send_response(status)
        if status == HTTPStatus.NOT_FOUND:
            self.send_header("X-Error-Code", code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def send_path(self, path: str, body: bool) -> None:
        hub = self.server
        if path not in hub.paths():
            self.send_json({}, HTTPStatus.NOT_FOUND, "EntryNotFound")
            return
        content = (hub.folder / path).read_bytes()
        first, last = self.wanted_range(len(content))
        part = content[first : last + 1]
        self.send_response(206 if self.headers["Range"] else 200)
        self.send_header("ETag", f'"{hub.digest(path)}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(part)))
        self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
        self.end_headers()
        if body:
            self.send_part(path, first, part)

    def send_part(self, path: str, first: int, part: bytes) -> None:
        hub = self.server
        hub.fetched.append((path, first))
        if path in hub.breaks:
            hub.breaks.discard(path)
            part = part[: len(part) // HALF]
            self.close_connection = True
        self.wfile.write(part)

    def wanted_range(self, size: int) -> tuple[int, int]:
        if not self.headers["Range"]:
            return 0, size - 1
        first, _, last = self.headers["Range"].removeprefix("bytes=").partition("-")
        return int(first), int(last) if last else size - 1

    def log_message(self, *args: Any) -> None:
        """Nothing on the terminal."""


@contextmanager
def running_hub(folder: Path) -> Iterator[FakeHub]:
    with FakeHub(folder) as hub:
        thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield hub
        finally:
            hub.shutdown()
            thread.join()
