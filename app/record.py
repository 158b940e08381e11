"""What is remembered of one HTTP request until its log line and metrics are written."""

import math
import re
import time
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from litestar.types import HTTPScope, Message, Send

from app.edge.client import EXTENSION, Client
from app.keys.caller import NOBODY
from app.random_names import random_name
from app.replies.frames import Write
from app.replies.usage import TokenCount
from app.reuse.terms import Reuse

CLIENT_REQUEST_ID = re.compile(r"[!-~]{1,128}")

PROBE_PATHS = frozenset({"/health", "/health/live", "/health/ready", "/metrics"})
"""Answered even when no permit is left, since monitoring matters most then."""


def request_id(scope: HTTPScope) -> str:
    """The client's `X-Request-Id` if it is printable and short, else a new one.

    It is for logs only: the engine gets an id of its own, so two requests may share this one.
    """
    for name, value in scope["headers"]:
        if name == b"x-request-id" and CLIENT_REQUEST_ID.fullmatch(value.decode("latin-1")):
            return value.decode("latin-1")
    return random_name()


class RequestRecord:
    """One request's identity, timings and counts, filled in as it goes through the server."""

    __slots__ = (
        "caller",
        "client",
        "deadline",
        "error",
        "first_token_seconds",
        "held",
        "id",
        "method",
        "model",
        "path",
        "queued_seconds",
        "reserved_tokens",
        "reuse",
        "send",
        "started",
        "status",
        "tokens",
        "write",
    )

    def __init__(self, scope: HTTPScope, send: Send) -> None:
        self.id = request_id(scope)
        self.method = scope["method"]
        self.path = scope["path"]
        self.send = send
        offered: Mapping[Any, Any] = (scope.get("extensions") or {}).get(EXTENSION, {})
        self.client: Client | None = offered.get("client")
        self.write: Write | None = offered.get("write")
        self.started = time.perf_counter()
        self.status = 0
        self.caller = NOBODY
        """Until it is known whose the key is."""

        self.model: str | None = None
        self.reserved_tokens = 0
        self.tokens: TokenCount | None = None
        self.first_token_seconds: float | None = None
        self.queued_seconds: float | None = None
        self.deadline = math.inf
        """On the clock of `time.monotonic`; then the client wants no reply any more."""

        self.error: str | None = None
        self.reuse: Reuse | None = None
        self.held = ExitStack()
        """What the request keeps from being taken away until it has ended."""

    @property
    def elapsed_seconds(self) -> float:
        return time.perf_counter() - self.started

    @property
    def owner(self) -> str:
        """Alias of the client's key; empty without one, and until it is known."""
        return self.caller.owner

    def note_queued(self, seconds: float) -> None:
        """Of several generations the one counts that waited longest for its turn."""
        self.queued_seconds = max(seconds, self.queued_seconds or 0)

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """What every reply carries."""
        headers = [(b"x-request-id", self.id.encode("latin-1")), *self.caller.headers]
        if self.reuse is not None and (source := self.reuse.source) is not None:
            headers.append((b"x-cache", source.encode()))
        return headers

    async def send_noted(self, message: Message) -> None:
        """The `send` of plain replies: notes the status and adds our headers."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message["headers"], *self.headers]
        await self.send(message)
