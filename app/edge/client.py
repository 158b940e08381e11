"""What a connection offers the application of the client behind one request, beside ASGI's own."""

from collections.abc import Callable
from typing import cast

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from app.edge.cork import Cork
from app.replies.frames import Write

EXTENSION = "slipstream.client"
"""The ASGI extension: `client` is a Client, `write` a Write where streams may be pushed."""


class Client:
    """Whoever waits for a reply to one request."""

    __slots__ = ("_waiting", "cycle")

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self.cycle = cycle
        self._waiting: list[Callable[[], None]] = []

    @property
    def has_left(self) -> bool:
        return self.cycle.disconnected

    def watch(self, leave: Callable[[], None]) -> None:
        """Call it when the client leaves, until it is unwatched."""
        self._waiting.append(leave)

    def unwatch(self, leave: Callable[[], None]) -> None:
        self._waiting.remove(leave)

    def leave(self) -> None:
        """Tell everybody who works for it, and `receive` and `send`, that nobody is there."""
        if self.cycle.response_complete:
            return
        self.cycle.disconnected = True
        self.cycle.message_event.set()
        for each in tuple(self._waiting):
            each()


def writer(cycle: RequestResponseCycle) -> Write:
    """What sends a piece of a chunked reply as `cycle.send` does when it need not wait."""
    cork, flow = cast(Cork, cycle.transport), cycle.flow
    transport, held = cork.transport, cork.pieces

    def write(body: bytes) -> bool:
        if flow.write_paused or cycle.disconnected:
            return False
        if held:
            cork.flush()
        if body:
            transport.write(b"%x\r\n%b\r\n" % (len(body), body))
        return True

    return write
