"""A stand-in for the public internet: scripted servers on loopback behind public addresses."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from ssl import SSLContext
from typing import Any

from httpcore2 import AnyIOBackend, AsyncNetworkStream

PUBLIC = "93.184.215.14"

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]


class Web:
    """Names that resolve to public addresses, all of which lead to one server."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.hits = 0
        """Connections that the server saw."""

        self.open = 0
        """Of them, those that are not closed."""

        self.heads: list[str] = []
        """What was sent before each body."""

        self.resolved: list[str] = []
        self.dialled: list[tuple[str, int]] = []
        self.answers: list[Sequence[str]] = []
        """What the resolver says next; PUBLIC when nothing is left."""

        self.closed = asyncio.Condition()

    async def resolve(self, host: str, port: int) -> Sequence[str]:
        self.resolved.append(host)
        return self.answers.pop(0) if self.answers else [PUBLIC]

    async def connect(self, address: str, port: int) -> AsyncNetworkStream:
        self.dialled.append((address, port))
        return await AnyIOBackend().connect_tcp("127.0.0.1", self.port)

    async def all_closed(self) -> None:
        async with asyncio.timeout(5), self.closed:
            await self.closed.wait_for(lambda: self.open == 0)


@asynccontextmanager
async def serving(script: Script, tls: SSLContext | None = None) -> AsyncIterator[Web]:
    """A server that reads one request head per connection and then does as the script says."""
    web = Web(0)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        web.hits += 1
        web.open += 1
        try:
            web.heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
            await script(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the fetcher has hung up, which is what some tests are about
        finally:
            writer.close()
            async with web.closed:
                web.open -= 1
                web.closed.notify_all()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=tls)
    async with server:
        web.port = server.sockets[0].getsockname()[1]
        yield web
        await web.all_closed()


def reply(body: bytes, *headers: str, status: str = "200 OK", kind: str = "image/png") -> Script:
    """Send a body with its type and length; `headers` come last."""
    lines = [f"HTTP/1.1 {status}", f"Content-Type: {kind}", f"Content-Length: {len(body)}"]
    return raw("\r\n".join([*lines, *headers, "", ""]).encode() + body)


def raw(answer: bytes) -> Script:
    """Send these bytes and hang up."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await writer.drain()

    return script


def then_endless(answer: bytes, piece: bytes = b"", pause_seconds: float = 0.0) -> Script:
    """Send these bytes, then the same piece for ever; without a piece, silence."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        while piece:
            await writer.drain()
            writer.write(piece)
            await asyncio.sleep(pause_seconds)
        await writer.drain()
        await reader.read()

    return script
