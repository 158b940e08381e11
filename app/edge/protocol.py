"""uvicorn's HTTP protocol with limits: on heads, on waiting, on connections. One a connection.

Knows bytes and requests' heads, never what they are for. The limits hold with httptools, which is
the parser that `server.uvicorn_config` names; nothing here is called per piece of a reply.
"""

import asyncio
import logging
import socket
import time
from collections import deque
from collections.abc import Iterable
from typing import Any, ClassVar, cast

import httptools
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
)

from app.edge.client import EXTENSION, Client, writer
from app.edge.cork import Cork
from app.edge.files import room_for_connections
from app.edge.head import check_head
from app.edge.stall import Stall, Wait
from app.errors import (
    HeadersTooLarge,
    MalformedHTTP,
    RequestTimedOut,
    ServerError,
    TooManyConnections,
    URLTooLong,
    encode_error,
)
from app.settings import Settings

logger = logging.getLogger(__name__)

MAX_PIPELINED = 16
"""Requests that may wait behind the one being answered; hardly any client sends even one."""

LINGER_SECONDS = 5
"""How long what a client still sends is thrown away before its connection is cut: closing at once
could destroy a refusal on its way (RFC 9112, 9.6)."""

SEPARATORS_BYTES = 4
"""Of a header line, beside its name and value."""

UNKNOWN_PATH = "/v1"
"""Where no path could be read, the refusal is in OpenAI's dialect."""


class EdgeProtocol(HttpToolsProtocol):
    """One connection. What it refuses it answers itself; the application never hears of it."""

    settings: ClassVar[Settings]
    max_connections: ClassVar[int]

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.url = b""
        self.unanswered: deque[Client] = deque()
        """Whom the application is working for, then those who wait for that."""

        self.num_requests = 0
        self.in_head = False
        self.head_bytes = self.num_headers = self.body_bytes = 0
        self.held_bytes = 0
        """What the parser has been given since it last made anything of it."""

        self.num_drained = 0
        """How often the client has read so much that the reply could go on."""

        self.is_deaf = False
        """Whether whatever comes is thrown away."""

        self.stall = Stall()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(Cork(cast(asyncio.Transport, transport), self.loop))
        # Else the kernel takes megabytes for a reader who does not read, and we notice late.
        opened: socket.socket = transport.get_extra_info("socket")
        opened.setsockopt(
            socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, self.settings.max_unsent_bytes
        )
        if len(self.connections) > self.max_connections:
            self.is_deaf = True
            self.transport.write(self.refusal(TooManyConnections("Too many connections are open.")))
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """uvicorn tells only the request that came last; all of them must learn of it."""
        for client in self.unanswered:
            client.leave()
        self.unanswered.clear()
        self.pipeline.clear()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.is_deaf:
            return
        self._unset_keepalive_if_required()
        before = (self.num_requests, self.body_bytes)
        try:
            self.feed(data)
            self.count_held(0 if before != (self.num_requests, self.body_bytes) else len(data))
        except httptools.HttpParserError as error:
            self.refuse(refusal_of(error))
        except HeadersTooLarge as error:
            self.refuse(error)

    def feed(self, data: bytes) -> None:
        """Parse; a request that asks for another protocol is read again as one that does not.

        The parser takes what is behind such a head for the other protocol. It may be a body.
        """
        while data:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                data = self.plain_head() + data[upgrade.args[0] :]
            else:
                return

    def plain_head(self) -> bytes:
        """The head that has been read, asking for nothing but an answer."""
        version = self.parser.get_http_version().encode()
        start = b"%b %b HTTP/%b\r\n" % (self.parser.get_method(), self.url, version)
        kept = (each for each in self.headers if each[0] != b"upgrade")
        return start + b"".join(b"%b: %b\r\n" % each for each in kept) + b"\r\n"

    def count_held(self, num_bytes: int) -> None:
        """An endless header, trailer or chunk extension grows in the parser, out of sight."""
        self.held_bytes = self.held_bytes + num_bytes if num_bytes else 0
        if self.held_bytes > self.settings.max_header_bytes + self.settings.max_url_bytes:
            raise self.too_large()

    def on_message_begin(self) -> None:
        self._unset_keepalive_if_required()
        self.num_requests += 1
        self.in_head = True
        self.head_bytes = self.num_headers = self.body_bytes = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if len(self.url) > self.settings.max_url_bytes:
            raise URLTooLong(f"The URL is longer than {self.settings.max_url_bytes} bytes.")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Trailers come here too; they are counted and dropped, a head does not change any more."""
        self.num_headers += 1
        self.head_bytes += len(name) + len(value) + SEPARATORS_BYTES
        if (
            self.head_bytes > self.settings.max_header_bytes
            or self.num_headers > self.settings.max_headers
        ):
            raise self.too_large()
        if self.in_head:
            super().on_header(name, value)

    def too_large(self) -> HeadersTooLarge:
        limits = self.settings
        return HeadersTooLarge(
            f"A request has at most {limits.max_headers} headers of "
            f"{limits.max_header_bytes} bytes in all."
        )

    def on_headers_complete(self) -> None:
        self.in_head = False
        check_head(self.parser.get_method(), self.parser.get_http_version(), self.headers)
        if self.parser.should_upgrade():
            return  # it comes again
        if len(self.unanswered) > MAX_PIPELINED:
            raise MalformedHTTP("Too many requests were sent ahead of their replies.")
        super().on_headers_complete()
        self.cycle.keep_alive &= not self.expect_100_continue  # whether the body comes is open
        client = Client(self.cycle)
        self.unanswered.append(client)
        self.scope["extensions"] = {EXTENSION: self.offer(client)}
        if len(self.unanswered) > 1:
            self.flow.resume_reading()  # only who reads on learns that the client has left

    def offer(self, client: Client) -> dict[object, object]:
        """What the application is told of the client, beside ASGI's own."""
        offered: dict[object, object] = {"client": client}
        if self.settings.push_delivery:
            offered["write"] = writer(client.cycle)
        return offered

    def on_body(self, body: bytes) -> None:
        self.body_bytes += len(body)
        super().on_body(body)
        if len(self.unanswered) > 1 and len(self.cycle.body) > HIGH_WATER_LIMIT:
            raise MalformedHTTP("Too much was sent ahead of the reply before.")

    def on_message_complete(self) -> None:
        """Of a body whose reply was there first, uvicorn does not note the end; now it is idle."""
        if self.parser.should_upgrade():
            return
        super().on_message_complete()
        self.cycle.more_body = False
        if not self.unanswered:
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def on_response_complete(self) -> None:
        self.unanswered.popleft()
        super().on_response_complete()

    def resume_writing(self) -> None:
        self.num_drained += 1
        super().resume_writing()

    def refuse(self, error: ServerError) -> None:
        """Answer what is no request, or comes too slowly; what is being answered is finished."""
        self.is_deaf = True
        self.flow.resume_reading()
        if self.unanswered and self.cycle.more_body:
            self.give_up_newest()
        if self.unanswered:
            self.cycle.keep_alive = False
        elif not self.transport.is_closing():
            logger.info("refused: %s", error.message)
            self.transport.write(self.refusal(error))
            self.transport.write_eof()

    def give_up_newest(self) -> None:
        """The request whose body is not complete: the application learns that its client left."""
        client = self.unanswered.pop()
        if client.cycle.response_started:
            self.transport.abort()
        client.leave()
        if self.unanswered:
            self.pipeline.popleft()
            self.cycle = self.unanswered[-1].cycle

    def refusal(self, error: ServerError) -> bytes:
        """A whole reply, after which the connection is closed."""
        status, body = encode_error(error, self.url.decode("latin-1") or UNKNOWN_PATH)
        headers = error.headers | {
            "content-type": "application/json",
            "content-length": str(len(body)),
            "connection": "close",
        }
        lines = [f"{name}: {value}\r\n".encode() for name, value in headers.items()]
        return b"".join([STATUS_LINE[status], *lines, b"\r\n", body])

    def sweep(self, now: float) -> None:
        """Called every second: end the connection if its client keeps it waiting too long."""
        wait = self.wait()
        moved_bytes = self.body_bytes if wait == "body" else -self.transport.get_write_buffer_size()
        waited = self.stall.note(wait, self.num_requests + self.num_drained, now, moved_bytes)
        if wait is None or waited < self.patience(wait):
            return
        is_transfer = wait in ("body", "reader")
        if is_transfer and self.stall.rate(now, moved_bytes) >= self.settings.min_bytes_per_second:
            self.stall.restart(now, moved_bytes)
        else:
            self.time_out(wait)

    def wait(self) -> Wait | None:
        """What the client is expected to do next; None where it is our turn."""
        if self.flow.write_paused or self.transport.is_closing():
            return "reader"
        if self.unanswered:
            return "body" if self.cycle.more_body and not self.flow.read_paused else None
        if self.is_deaf or (self.cycle is not None and self.cycle.more_body):
            return "end"
        return "head" if self.timeout_keep_alive_task is None else None

    def patience(self, wait: Wait) -> float:
        """Seconds that a wait may last."""
        settings = self.settings
        return {
            "head": settings.head_seconds,
            "body": settings.body_seconds,
            "reader": settings.slow_reader_seconds,
            "end": LINGER_SECONDS,
        }[wait]

    def time_out(self, wait: Wait) -> None:
        if wait == "body":
            self.refuse(RequestTimedOut("The request's body came too slowly."))
        elif wait == "head" and self.in_head:
            self.refuse(RequestTimedOut("The request's headers came too slowly."))
        else:
            self.transport.abort()


def refusal_of(error: httptools.HttpParserError) -> ServerError:
    """What one of our callbacks raised, or the parser's own reason."""
    cause = error.__context__
    if isinstance(cause, ServerError):
        return cause
    if isinstance(error, httptools.HttpParserCallbackError):
        return MalformedHTTP("The request's target cannot be read.")
    return MalformedHTTP(f"This is not HTTP as it is spoken here: {error}.")


def sweep(connections: Iterable[asyncio.Protocol]) -> None:
    """Once a second for all of them, instead of a timer for each request of each."""
    now = time.monotonic()
    for connection in tuple(connections):
        cast(EdgeProtocol, connection).sweep(now)


def edge_protocol(configured: Settings) -> type[EdgeProtocol]:
    """The class of connections for these settings; uvicorn takes a class and nothing else."""

    class ConfiguredProtocol(EdgeProtocol):
        settings = configured
        max_connections = room_for_connections(configured.max_connections)

    return ConfiguredProtocol
