"""`Idempotency-Key`: a POST that is sent again gets the answer that it got first.

As in https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header: for clients that
do not know whether their request arrived. Works on status, headers and bytes, for every route.
"""

import asyncio
import hashlib
import re
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import msgspec
from litestar import Request, Response
from litestar.types import ASGIApp, HTTPResponseStartEvent, Message, Receive, Scope, Send

from app.disconnect import run_unless_disconnected
from app.errors import IdempotencyConflict, InvalidRequest
from app.record import RequestRecord
from app.reuse.guard import GuardedStore

HEADER = "idempotency-key"
KEY = re.compile(r"[!-~]{1,255}")
REPLAYED = (b"idempotent-replayed", b"true")
FINAL_REFUSALS = frozenset({400, 415, 422})
"""What is wrong with the request itself, and will be next time; all other errors may pass."""


class Answer(msgspec.Struct, array_like=True):
    """What was answered, and to which body."""

    name: str
    digest: bytes
    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder(Answer).decode


class Claim:
    """A request that is being answered for the first time; those like it wait for its end."""

    def __init__(self, digest: bytes) -> None:
        self.digest = digest
        self.ended = asyncio.Event()


class Answers:
    """First answers under their clients' keys, kept and under way."""

    def __init__(self, store: GuardedStore, seconds: int, max_bytes: int) -> None:
        self._store = store
        self._seconds = seconds
        self._max_bytes = max_bytes
        self._claims: dict[str, Claim] = {}

    async def earlier(self, request: Request[Any, Any, Any], key: str) -> Answer | None:
        """The first answer to this request; None if this is the first, which is recorded then.

        Waits for one that is under way. Raises InvalidRequest, IdempotencyConflict and
        ClientDisconnected.
        """
        check_key(key)
        name, digest = name_of(request, key), hashlib.sha256(await request.body()).digest()
        record: RequestRecord = request.scope["record"]  # type: ignore[typeddict-item]
        while (claim := self._claims.get(name)) is not None:
            check_same(claim.digest, digest)
            await run_unless_disconnected(record.client, request.receive, claim.ended.wait())
        with ExitStack() as held:
            held.enter_context(self._claimed(name, digest))
            if (answer := await self._find(name)) is not None:
                check_same(answer.digest, digest)
                return answer
            self._record(record, name, digest)
            record.held.push(held.pop_all())
        return None

    @contextmanager
    def _claimed(self, name: str, digest: bytes) -> Iterator[None]:
        claim = self._claims[name] = Claim(digest)
        try:
            yield
        finally:
            del self._claims[name]
            claim.ended.set()

    def _record(self, record: RequestRecord, name: str, digest: bytes) -> None:
        async def keep(status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
            answer = Answer(name, digest, status, headers, body)
            await self._store.set(name, encode(answer), self._seconds)

        record.send = Recorder(record, keep, self._max_bytes)
        record.write = None  # nothing goes past the recorder

    async def _find(self, name: str) -> Answer | None:
        data = await self._store.get(name)
        if data is None:
            return None
        try:
            answer = decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            answer = None
        if answer is None or answer.name != name:
            self._store.note_garbage()
            return None
        return answer


Keep = Callable[[int, list[tuple[bytes, bytes]], bytes], Awaitable[None]]


class Recorder:
    """The `send` of an answer that is remembered if it ends well and is not too large.

    It is kept before its last bytes go out: whoever has them may ask again at once, and whoever
    has lost the connection by then most of all.
    """

    def __init__(self, record: RequestRecord, keep: Keep, max_bytes: int) -> None:
        self._record = record
        self._send = record.send
        self._keep = keep
        self._bytes_left = max_bytes
        self._start: HTTPResponseStartEvent | None = None
        self._bodies: list[bytes] = []

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start = message
        elif message["type"] == "http.response.body":
            self._add(message.get("body", b""))
            if not message.get("more_body") and self._is_final():
                await self._finish()
        await self._send(message)

    def _add(self, body: bytes) -> None:
        self._bytes_left -= len(body)
        if self._bytes_left < 0:
            self._bodies.clear()
        else:
            self._bodies.append(body)

    def _is_final(self) -> bool:
        """Whether the same request would get this answer again."""
        if self._start is None or self._bytes_left < 0:
            return False
        status = self._start["status"]
        return status in FINAL_REFUSALS or (status < 300 and self._record.error is None)

    async def _finish(self) -> None:
        assert self._start is not None
        of_this_request = {name for name, _ in self._record.headers}
        headers = [(n, v) for n, v in self._start["headers"] if n not in of_this_request]
        await self._keep(self._start["status"], headers, b"".join(self._bodies))


class ReplayedAnswer(Response[None]):
    """An earlier answer, byte for byte; what belongs to one request alone, it gets anew."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(None)
        self.answer = answer

    def to_asgi_response(self, *_: Any, **__: Any) -> ASGIApp:  # type: ignore[override]
        """Litestar's way from a `Response` to what it calls."""
        return self.play

    async def play(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = self.answer
        headers = [*answer.headers, REPLAYED]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body, "more_body": False})


async def replay(request: Request[Any, Any, Any]) -> ReplayedAnswer | None:
    """The first answer to a request that comes again, for whose key is known by now.

    Raises what `Answers.earlier` raises.
    """
    key = request.headers.get(HEADER)
    answers: Answers | None = request.app.state.answers
    if key is None or answers is None or request.method != "POST":
        return None
    answer = await answers.earlier(request, key)
    if answer is None:
        return None
    request.app.state.metrics.replayed_answers.inc()
    return ReplayedAnswer(answer)


def check_key(key: str) -> None:
    """Raises InvalidRequest."""
    if not KEY.fullmatch(key):
        raise InvalidRequest(
            "Idempotency-Key: expected 1 to 255 visible ASCII characters.", param=HEADER
        )


def check_same(first: bytes, digest: bytes) -> None:
    """Raises IdempotencyConflict."""
    if first != digest:
        raise IdempotencyConflict(
            "Idempotency-Key: this key was sent with another body before; send a new one.",
            param=HEADER,
        )


def name_of(request: Request[Any, Any, Any], key: str) -> str:
    """Under which an answer is kept: 64 hexadecimal digits of owner, path and key."""
    record: RequestRecord = request.scope["record"]  # type: ignore[typeddict-item]
    return hashlib.sha256(encode((record.owner, record.path, key))).hexdigest()
