"""Time to the first token: bare sockets on a fast loop, the same for all servers.

The first token is the first event with text in it; the event that only names the role is none.
"""

import asyncio
import re
import time
from typing import cast

import httpx
import msgspec
import uvloop

from tests.bench.peers.workloads import KEY, Load, Workload, WrongReply, chat_body, prompt

TEXT = re.compile(rb'"content":\s*"[^"]')
SUCCESS = b"HTTP/1.1 200"
END = b"\r\n0\r\n\r\n"
"""Of a reply in chunks."""


class Clients:
    """Of one block: what they ask, until when, and what they have measured."""

    def __init__(self, host: str, workload: Workload, block: str, seconds: float) -> None:
        self.first_token_seconds: list[float] = []
        self.events = 0
        self.began = time.perf_counter()
        self.usage = re.compile(rb'"completion_tokens":\s*%d\D' % workload.tokens)
        self._host = host
        self._workload = workload
        self._block = block
        self._until = self.began + seconds
        self._asked = 0

    @property
    def is_over(self) -> bool:
        return time.perf_counter() > self._until

    def request(self) -> bytes:
        """The next one, each with a prompt of its own."""
        self._asked += 1
        asked = chat_body(prompt(self._block, self._asked), self._workload.tokens, stream=True)
        body = msgspec.json.encode(asked)
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nHost: {self._host}\r\n"
            f"Authorization: Bearer {KEY}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body


class Connection(asyncio.Protocol):
    """Asks again as soon as it is answered; `over` ends with the clients' time, or WrongReply."""

    def __init__(self, clients: Clients) -> None:
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._clients = clients

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)  # uvloop's has no such base
        self._ask()

    def _ask(self) -> None:
        self._reply = bytearray()
        self._first: float | None = None
        request = self._clients.request()
        self._asked = time.perf_counter()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter()
        self._reply += data
        if self._first is None and TEXT.search(self._reply):
            self._first = now - self._asked
        if self._reply.endswith(END) or not self._reply.startswith(SUCCESS):
            self._end()

    def _end(self) -> None:
        reply = bytes(self._reply)
        if self._first is None or not self._is_whole(reply):
            self.over.set_exception(WrongReply(reply[:500].decode(errors="replace")))
            return self._transport.close()
        self._clients.first_token_seconds.append(self._first)
        self._clients.events += len(TEXT.findall(reply))
        if self._clients.is_over:
            self.over.set_result(None)
            return self._transport.close()
        return self._ask()

    def _is_whole(self, reply: bytes) -> bool:
        is_done = reply.startswith(SUCCESS) and b"data: [DONE]" in reply
        return is_done and self._clients.usage.search(reply) is not None

    def connection_lost(self, error: Exception | None) -> None:
        if not self.over.done():
            self.over.set_exception(WrongReply(f"The connection was closed: {error}"))


def measure_first_token(url: str, workload: Workload, block: str, seconds: float) -> Load:
    """Ask for so long, and wait for the last replies. Raises WrongReply."""
    return uvloop.run(ask(url, workload, block, seconds))


async def ask(url: str, workload: Workload, block: str, seconds: float) -> Load:
    where, loop = httpx.URL(url), asyncio.get_running_loop()
    clients = Clients(where.netloc.decode(), workload, block, seconds)
    opened = [
        await loop.create_connection(lambda: Connection(clients), where.host, where.port or 80)
        for _ in range(workload.connections)
    ]
    await asyncio.gather(*(connection.over for _, connection in opened))
    return Load(
        replies=len(clients.first_token_seconds),
        tokens=len(clients.first_token_seconds) * workload.tokens,
        seconds=time.perf_counter() - clients.began,
        events=clients.events,
        first_token_seconds=clients.first_token_seconds,
    )
