"""One reply on its way to the client: a replica's messages in, the same messages on the socket.

Tells of a replica's death in the way that is still open: an event, a status, or a cut.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Iterable

import msgspec
from litestar.types import Message

from app.cluster.exchange import REPLICA_HEADER
from app.errors import GenerationFailed, ServerError, openai_error
from app.record import RequestRecord
from app.replies.frames import frame

logger = logging.getLogger(__name__)

EVENT_STREAM = b"text/event-stream"


class Relay:
    """What has been sent of a reply, and the task that sends it."""

    def __init__(self, record: RequestRecord, replies: AsyncGenerator[list[Message], None]) -> None:
        self.record = record
        self._replies = replies
        self.replica = "none"
        self.has_begun = False
        self._is_stream = False
        self._abortion: ServerError | None = None
        self._task: asyncio.Task[object] | None = None

    async def run(self) -> None:
        """Send everything. Raises ServerError only where nothing has been sent."""
        self._task = asyncio.current_task()
        try:
            await self._pass_on()
        except ServerError as error:
            await self._tell(error)
        except asyncio.CancelledError:
            if self._abortion is None or self._task is None:
                raise
            self._task.uncancel()
            await self._tell(self._abortion)

    async def _pass_on(self) -> None:
        async for messages in self._replies:
            for message in messages:
                self._note(message)
                await self.record.send(message)
            if is_last(messages[-1]):
                # At once: to the server a reply that is complete looks like a client that left.
                return

    def _note(self, message: Message) -> None:
        if message["type"] != "http.response.start":
            return
        self.has_begun = True
        self.record.status = message["status"]
        self.replica = replica_of([message])
        headers = dict(message["headers"])
        self._is_stream = headers.get(b"content-type", b"").startswith(EVENT_STREAM)

    async def _tell(self, error: ServerError) -> None:
        """The reply's last event; before its first byte the error itself.

        A reply that is not a stream stays incomplete: the connection is closed under it.
        """
        self.record.error = error.code
        logger.warning("request %s, replica %s: %s", self.record.id, self.replica, error.message)
        if not self.has_begun:
            raise error
        if self._is_stream:
            late = GenerationFailed(error.message, code=error.code)
            body = frame(msgspec.json.encode(openai_error(late)))
            await self.record.send({"type": "http.response.body", "body": body, "more_body": False})

    def abort(self, error: ServerError) -> None:
        """End the reply with this error."""
        if self._task is not None:
            self._abortion = error
            self._task.cancel()


def is_last(message: Message) -> bool:
    return message["type"] == "http.response.body" and not message.get("more_body")


async def send_whole(record: RequestRecord, body: bytes, content_type: bytes) -> None:
    """Answer 200 without a replica."""
    headers = [(b"content-type", content_type), (b"content-length", b"%d" % len(body))]
    await record.send_noted({"type": "http.response.start", "status": 200, "headers": headers})
    await record.send({"type": "http.response.body", "body": body, "more_body": False})


def replica_of(messages: Iterable[Message]) -> str:
    """Which replica gave this reply."""
    for message in messages:
        if message["type"] == "http.response.start":
            return dict(message["headers"]).get(REPLICA_HEADER, b"none").decode()
    return "none"


def text_of(messages: Iterable[Message]) -> str | None:
    """The body of a whole reply, None if its status is not 200."""
    body = b""
    for message in messages:
        if message["type"] == "http.response.start" and message["status"] != 200:
            return None
        if message["type"] == "http.response.body":
            body += message["body"]
    return body.decode()
