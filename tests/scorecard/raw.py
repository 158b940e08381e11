"""Bytes to a server and back, for what no HTTP client would send."""

import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from urllib.parse import urlsplit

import msgspec

READ_BYTES = 65536


def address_of(url: str) -> tuple[str, int]:
    """Host and port of a URL that names both."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    return parts.hostname, parts.port


class RawReply(msgspec.Struct):
    """What came back until the server closed the connection, or the time was over."""

    data: bytes
    is_closed: bool
    seconds: float

    @property
    def status(self) -> int | None:
        """None if no reply came."""
        return int(self.data[9:12]) if self.data.startswith(b"HTTP/1.") else None

    @property
    def head(self) -> str:
        return self.data.partition(b"\r\n\r\n")[0].decode("latin-1").lower()

    @property
    def body(self) -> bytes:
        return self.data.partition(b"\r\n\r\n")[2]


class RawConnection:
    """One TCP connection."""

    def __init__(self, url: str, *, receive_buffer: int | None = None) -> None:
        self.socket = socket.socket()
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(10)
        self.socket.connect(address_of(url))

    def send(self, *chunks: bytes) -> bool:
        """Send all; False if the server closed the connection meanwhile."""
        try:
            for chunk in chunks:
                self.socket.sendall(chunk)
        except OSError:
            return False
        return True

    def read(self, seconds: float, until: bytes = b"") -> RawReply:
        """Read until the server closes, what was waited for has come, or the time is over."""
        started = time.monotonic()
        data, is_closed = bytearray(), False
        while not is_closed and not (until and until in data):
            left = started + seconds - time.monotonic()
            if left <= 0:
                break
            self.socket.settimeout(left)
            try:
                chunk = self.socket.recv(READ_BYTES)
            except TimeoutError:
                break
            except OSError:
                chunk = b""
            data += chunk
            is_closed = not chunk
        return RawReply(bytes(data), is_closed, time.monotonic() - started)

    def finish_sending(self) -> None:
        """Close our half; the server may go on."""
        self.socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        with suppress(OSError):
            self.socket.close()


@contextmanager
def raw_connection(url: str, *, receive_buffer: int | None = None) -> Iterator[RawConnection]:
    connection = RawConnection(url, receive_buffer=receive_buffer)
    try:
        yield connection
    finally:
        connection.close()


@contextmanager
def raw_connections(
    url: str, count: int, *, receive_buffer: int | None = None
) -> Iterator[list[RawConnection]]:
    """Many at once."""
    with ExitStack() as stack:
        yield [
            stack.enter_context(raw_connection(url, receive_buffer=receive_buffer))
            for _ in range(count)
        ]


def ask_raw(url: str, chunks: Iterable[bytes], seconds: float = 5) -> RawReply:
    """Send on a connection of its own, and read until it is closed."""
    with raw_connection(url) as connection:
        connection.send(*chunks)
        return connection.read(seconds)
