"""One picture from the web: a parsed URL in, the bytes of the body out.

httpcore2 speaks HTTP over a stream that is opened here: resolve, check every address, dial one
that was checked. It follows no redirect, reads no proxy, cookie or credential from anywhere,
decodes no content encoding and never resolves a name; with clients that do, each of these is one
more thing to switch off, and their hooks see names where the check needs addresses.
Does not know the time limit: its callers cancel it, and it leaves no socket open.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence

from httpcore2 import (
    URL,
    AnyIOBackend,
    AsyncHTTP11Connection,
    AsyncNetworkStream,
    NetworkError,
    ProtocolError,
    Request,
    Response,
    TimeoutException,
    default_ssl_context,
)

from app.images.addresses import is_public
from app.images.refusals import bad_url, fetching_is_off
from app.images.urls import WebURL
from app.settings import Settings

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""Host and port to every address that the host has. Raises OSError."""

Connect = Callable[[str, int], Awaitable[AsyncNetworkStream]]
"""Address and port to an open stream. Raises OSError or httpcore2's errors."""

FAILURES = (OSError, NetworkError, ProtocolError, TimeoutException)
MAX_DIALS = 4
CONCURRENT_FETCHES = 64
"""Of all requests together: a bound on sockets, and on memory with `max_image_bytes` each."""

connect_tcp: Connect = AnyIOBackend().connect_tcp


async def resolve_host(host: str, port: int) -> list[str]:
    """What the system's resolver says, for names and for addresses in any spelling.

    The C library knows more spellings than any parser of ours (`127.1`, `0x7f000001`), so an
    address in a URL is judged by what comes out of here, as names are.
    """
    found = await asyncio.get_running_loop().getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG
    )
    return [str(address[0]) for *_, address in found]


class Fetcher:
    """Fetches from allowed hosts, whose addresses must all be public."""

    def __init__(self, settings: Settings, resolve: Resolve, connect: Connect) -> None:
        self._hosts = settings.image_hosts
        self._max_bytes = settings.max_image_bytes
        self._seconds = settings.image_seconds
        self._resolve = resolve
        self._connect = connect
        self._slots = asyncio.Semaphore(CONCURRENT_FETCHES)
        if self._hosts:
            self._tls = default_ssl_context()
            self._tls.set_alpn_protocols(["http/1.1"])

    def check(self, url: WebURL) -> None:
        """Raises InvalidRequest if the host is not one to fetch from."""
        if not self._hosts:
            raise fetching_is_off()
        if not url.is_of(self._hosts):
            raise bad_url("the host is not in image_hosts")

    async def fetch(self, url: WebURL) -> bytes:
        """The body, at most `max_image_bytes`. Raises InvalidRequest."""
        self.check(url)
        try:
            async with self._slots:
                return await self._fetch(url)
        except FAILURES as error:
            raise bad_url(type(error).__name__) from error

    async def _fetch(self, url: WebURL) -> bytes:
        stream = await self._dial(url)
        try:
            if url.scheme == "https":
                secured = await stream.start_tls(self._tls, server_hostname=url.host)
                return await self._get(url, secured)
            return await self._get(url, stream)
        finally:
            # Also under TLS this is the socket. On cancellation nobody else would close it.
            await stream.aclose()

    async def _dial(self, url: WebURL) -> AsyncNetworkStream:
        addresses = await self._resolve(url.host, url.port)
        # One private address among public ones is the way of DNS rebinding.
        if not all(map(is_public, addresses)):
            raise bad_url("an address of the host is not public")
        dialled = addresses[:MAX_DIALS]
        for address in dialled:
            try:
                async with asyncio.timeout(self._seconds / len(dialled)):
                    return await self._connect(address, url.port)
            except FAILURES:
                continue
        raise bad_url("no address of the host answers")

    async def _get(self, url: WebURL, stream: AsyncNetworkStream) -> bytes:
        request = picture_request(url)
        connection = AsyncHTTP11Connection(origin=request.url.origin, stream=stream)
        response = await connection.handle_async_request(request)
        try:
            check_head(response, self._max_bytes)
            return await read_body(response, self._max_bytes)
        finally:
            await response.aclose()


def picture_request(url: WebURL) -> Request:
    """A GET of the very host and target that were checked, with nothing of the client's."""
    return Request(
        "GET",
        URL(
            scheme=url.scheme.encode(),
            host=url.host.encode(),
            port=url.port,
            target=url.target.encode(),
        ),
        headers=[
            ("Host", url.authority),
            ("User-Agent", "slipstream"),
            ("Accept", "image/png, image/jpeg, image/webp, image/gif"),
            ("Accept-Encoding", "identity"),
            ("Connection", "close"),
        ],
    )


def check_head(response: Response, max_bytes: int) -> None:
    """Raises InvalidRequest unless a picture follows, as it is and not too large.

    No redirect is followed: it would be a second URL, to be checked like the first.
    """
    if response.status != 200:
        raise bad_url(f"status {response.status}")
    headers = [(name.lower(), value.strip().lower()) for name, value in response.headers]
    types = [value for name, value in headers if name == b"content-type"]
    if len(types) != 1 or not types[0].startswith(b"image/"):
        raise bad_url("the content type is not a picture's")
    if any(name == b"content-encoding" and value != b"identity" for name, value in headers):
        raise bad_url("the body has a content encoding")
    # httpcore2 has refused what is no number, or not one number.
    if any(name == b"content-length" and int(value) > max_bytes for name, value in headers):
        raise bad_url("the content length is too large")


async def read_body(response: Response, max_bytes: int) -> bytes:
    """All of it. Raises InvalidRequest as soon as it is too large, and if it is empty."""
    body = bytearray()
    async for piece in response.aiter_stream():
        body += piece
        if len(body) > max_bytes:
            raise bad_url("the body is too large")
    if not body:
        raise bad_url("the body is empty")
    return bytes(body)
