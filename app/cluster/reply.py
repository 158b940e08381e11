"""A request in, the application's reply out: ASGI messages, as many at a time as there are.

Knows no Ray.
"""

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from typing import cast

from litestar.types import ASGIApp, HTTPReceiveMessage, Message

from app.cluster.exchange import Request, scope_of, tagged


async def replies(
    app: ASGIApp, request: Request, replica: str
) -> AsyncGenerator[list[Message], None]:
    """Run the application for one request. Closed or cancelled, its work ends as well."""
    reply = Reply(request, replica)
    run = cast(Coroutine[None, None, None], app(scope_of(request), reply.receive, reply.send))
    answering = asyncio.create_task(run)
    answering.add_done_callback(lambda _: reply.end())
    try:
        async for messages in reply:
            yield messages
        await answering
    finally:
        answering.cancel()


class Reply:
    """The application's ASGI callables, and what it has sent since it was last asked."""

    def __init__(self, request: Request, replica: str) -> None:
        self._body: bytes | None = request.body
        self._replica = replica.encode()
        self._sent: list[Message] = []
        self._changed = asyncio.Event()
        self._has_ended = False

    async def receive(self) -> HTTPReceiveMessage:
        """The body once, then nothing: that a client has left is told by cancelling."""
        if self._body is None:
            await asyncio.Event().wait()
        body, self._body = self._body or b"", None
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(self, message: Message) -> None:
        self._sent.append(tagged(message, self._replica))
        self._changed.set()

    def end(self) -> None:
        self._has_ended = True
        self._changed.set()

    def __aiter__(self) -> "Reply":
        return self

    async def __anext__(self) -> list[Message]:
        while not self._sent:
            if self._has_ended:
                raise StopAsyncIteration
            self._changed.clear()
            await self._changed.wait()
        messages, self._sent = self._sent, []
        return messages
