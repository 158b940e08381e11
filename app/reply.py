"""What handlers return: an ASGI callable of ours, with everything encoded once.

Litestar calls it as it is. Its own responses also know cookies, HEAD and work for afterwards, which
no route here has, at a dozen calls more a request.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping

import msgspec
from litestar.types import HTTPResponseStartEvent, Receive, Scope, Send

from app.edge.cors import NO_HEADERS

JSON = (b"content-type", b"application/json")


class Reply(ABC):
    """One that succeeds; failures are raised, as `ServerError`."""

    def __init__(
        self, headers: Iterable[tuple[bytes, bytes]], more: Mapping[str, str] = NO_HEADERS
    ) -> None:
        encoded = [(name.encode(), value.encode()) for name, value in more.items()]
        self.start: HTTPResponseStartEvent = {
            "type": "http.response.start",
            "status": 200,
            "headers": [*encoded, *headers],
        }

    @abstractmethod
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None: ...


class JSONReply(Reply):
    """A struct as JSON."""

    def __init__(self, reply: msgspec.Struct, more: Mapping[str, str] = NO_HEADERS) -> None:
        self.body = msgspec.json.encode(reply)
        super().__init__([JSON, (b"content-length", b"%d" % len(self.body))], more)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send(self.start)
        await send({"type": "http.response.body", "body": self.body, "more_body": False})
