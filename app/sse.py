"""Server-sent events: frames in, bytes on the socket.

The only place that writes after the first byte, and so the only one that tells of an error there.
"""

import logging
from collections.abc import AsyncIterator, Mapping
from typing import Protocol

import msgspec
from litestar.types import Receive, Scope, Send

from app.disconnect import WhileConnected
from app.edge.cors import NO_HEADERS
from app.errors import ClientDisconnected, GenerationFailed, ServerError, openai_error
from app.record import RequestRecord
from app.replies.frames import DONE, frame
from app.reply import Reply
from app.urgency import until

HEADERS = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
)

logger = logging.getLogger(__name__)


class Closable(Protocol):
    """Something that holds work in the engine."""

    async def aclose(self) -> None: ...


class EventStream(Reply):
    """A reply that sends frames as they come and ends with `[DONE]`.

    A failure becomes one error event and the end of the stream, without `[DONE]`. However it
    ends, and also when the client leaves, `source` is closed, which aborts the engine's request.
    """

    def __init__(
        self,
        frames: AsyncIterator[bytes],
        source: Closable,
        more: Mapping[str, str] = NO_HEADERS,
    ) -> None:
        super().__init__(HEADERS, more)
        self.frames = frames
        self.source = source

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The start goes through every wrapper, for its headers; the body past them, by token."""
        record: RequestRecord = scope["record"]  # type: ignore[typeddict-item]
        try:
            with WhileConnected(record.client, receive):
                await send(self.start)
                last = await self.send_frames(record)
                await record.send({"type": "http.response.body", "body": last, "more_body": False})
        except ClientDisconnected as error:
            record.error = error.code  # the reply has begun, and nobody is there to be told
        finally:
            await self.source.aclose()

    async def send_frames(self, record: RequestRecord) -> bytes:
        """Send every frame; returns what ends the stream."""
        send = record.send
        try:
            async with until(record.deadline):
                async for body in self.frames:
                    await send({"type": "http.response.body", "body": body, "more_body": True})
        except Exception as error:  # noqa: BLE001 - the status is sent; only an event can tell
            return error_frame(error, record)
        return DONE


def error_frame(error: Exception, record: RequestRecord) -> bytes:
    """The event that tells of a late failure; an unexpected one is logged and not detailed."""
    if not isinstance(error, ServerError):
        logger.error("request %s failed after its first byte", record.id, exc_info=error)
        error = GenerationFailed("The generation failed.")
    record.error = error.code or error.type
    return frame(msgspec.json.encode(openai_error(error)))
