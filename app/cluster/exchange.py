"""What travels between the front and a replica: a request as one struct, its reply as messages.

Both are pickled by Ray. Knows neither Ray nor the application.
"""

from collections.abc import Iterable
from typing import Any

import msgspec
from litestar.types import HTTPScope, Message

Headers = Iterable[tuple[bytes, bytes]]

REPLICA_HEADER = b"x-replica"
"""On every reply that a replica gave: which one it was."""


class Request(msgspec.Struct, frozen=True):
    """An HTTP request whose body has been read."""

    method: str
    path: str
    raw_path: bytes
    query_string: bytes
    headers: list[tuple[bytes, bytes]]
    client: tuple[str, int] | None
    body: bytes = b""


def request_of(scope: HTTPScope, headers: Headers, body: bytes) -> Request:
    """The request of an ASGI scope, under other headers."""
    return Request(
        scope["method"],
        scope["path"],
        scope["raw_path"],
        scope["query_string"],
        list(headers),
        scope["client"],
        body,
    )


def scope_of(request: Request) -> HTTPScope:
    """An ASGI scope for the application, made anew: it writes into it."""
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "scheme": "http",
        "method": request.method,
        "path": request.path,
        "raw_path": request.raw_path,
        "query_string": request.query_string,
        "root_path": "",
        "headers": list(request.headers),
        "client": request.client,
        "server": None,
        "extensions": {},
    }
    return scope  # type: ignore[return-value]


def tagged(message: Message, replica: bytes) -> Message:
    """A reply's message that names the replica, if it is the one with the headers."""
    if message["type"] == "http.response.start":
        message["headers"] = [*message["headers"], (REPLICA_HEADER, replica)]
    return message
