"""One connection over which requests are asked one after the other, read at little cost.

Hundreds of these share a processor core with the engine's stand-in.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httptools
import msgspec

from tests.bench.standin.asks import Ask, Asks
from tests.bench.standin.launches import KEY
from tests.bench.standin.once import pieces_of
from tests.bench.standin.tally import WrongAnswers

CHAT = "/v1/chat/completions"


class Reply(msgspec.Struct):
    """One answer, and how long it took to its end."""

    status: int
    body: bytes
    seconds: float


class Connection(asyncio.Protocol):
    """Use `connect`."""

    def __init__(self) -> None:
        self.num_events = 0
        """Events of streams that had some text, so far."""

        self._answered: asyncio.Future[Reply] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def ask(self, request: bytes) -> asyncio.Future[Reply]:
        """Send it, and get its reply in the end; ConnectionError if there is none."""
        self._parser = httptools.HttpResponseParser(self)
        self._body = bytearray()
        self._answered = asyncio.get_running_loop().create_future()
        self._began = time.perf_counter()
        self._transport.write(request)
        return self._answered

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, piece: bytes) -> None:
        self._body += piece
        self.num_events += num_events(piece)

    def on_message_complete(self) -> None:
        seconds = time.perf_counter() - self._began
        if self._answered is not None and not self._answered.done():
            reply = Reply(self._parser.get_status_code(), bytes(self._body), seconds)
            self._answered.set_result(reply)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answered is not None and not self._answered.done():
            self._answered.set_exception(exc or ConnectionError("closed before the reply's end"))

    def close(self) -> None:
        self._transport.close()


def num_events(piece: bytes) -> int:
    """How many pieces of text there are in a part of a stream."""
    return piece.count(b'"content":"') - piece.count(b'"content":""')


async def connect(url: str) -> Connection:
    """To `http://HOST:PORT`. Raises OSError."""
    host, port = url.removeprefix("http://").split(":")
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(Connection, host, int(port))
    return connection


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Connection]:
    """One that is closed in the end."""
    connection = await connect(url)
    try:
        yield connection
    finally:
        connection.close()


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n".encode()


def post(path: str, body: str, key: str = KEY) -> bytes:
    content = body.encode()
    head = f"POST {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {key}\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    return head.encode() + content


def check(reply: Reply, ask: Ask, asks: Asks) -> int:
    """How many events with text it came in. Raises WrongAnswers."""
    if reply.status != 200:
        raise WrongAnswers(f"status {reply.status}: {reply.body[:500]!r}")
    pieces = pieces_of(reply.body.decode())
    if "".join(pieces) != ask.text:
        raise WrongAnswers(f"another text than {ask.text[:200]!r}: {reply.body[:500]!r}")
    if (count := num_tokens(reply.body)) != asks.num_tokens:
        raise WrongAnswers(f"{count} tokens instead of {asks.num_tokens}: {reply.body[-500:]!r}")
    return len(pieces)


def num_tokens(body: bytes) -> int:
    """What the usage in a reply, or in a stream's last chunk, says."""
    *_, last = (part for part in body.split(b"\n\n") if part not in (b"", b"data: [DONE]"))
    usage: dict[str, Any] = json.loads(last.removeprefix(b"data: "))["usage"]
    return int(usage["completion_tokens"])
