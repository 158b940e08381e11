"""The client leaving: work for a request ends when nobody is there to read its reply."""

import asyncio
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import TypeVar

from litestar.types import Receive

from app.edge.client import Client
from app.errors import ClientDisconnected

T = TypeVar("T")


async def run_unless_disconnected(
    client: Client | None, receive: Receive, work: Coroutine[None, None, T]
) -> T:
    """Await `work`, cancelled when the client leaves first.

    Litestar lets a plain handler run to its end for nobody. Raises ClientDisconnected, and
    whatever `work` raises.
    """
    with WhileConnected(client, receive):
        return await work


class WhileConnected:
    """Cancels the body of the `with` when the client leaves; the request must have been read.

    A connection that offers no Client is asked by a task. Raises ClientDisconnected in place of
    the cancellation it caused; any other cancellation passes through.
    """

    __slots__ = ("_client", "_has_left", "_receive", "_task", "_watcher")

    def __init__(self, client: Client | None, receive: Receive) -> None:
        self._client = client
        self._receive = receive
        self._has_left = False
        self._watcher: asyncio.Task[None] | None = None

    def __enter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        if self._client is None:
            self._watcher = asyncio.create_task(until_disconnected(self._receive, self._leave))
            return
        self._client.watch(self._leave)
        if self._client.has_left:
            self._leave()

    def _leave(self) -> None:
        self._has_left = True
        self._task.cancel()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._watcher is not None:
            self._watcher.cancel()
        if self._client is not None:
            self._client.unwatch(self._leave)
        is_ours = self._has_left and isinstance(error, asyncio.CancelledError)
        if is_ours and self._task.uncancel() == 0:
            raise ClientDisconnected("The client left before its reply was complete.") from None


async def until_disconnected(receive: Receive, leave: Callable[[], None]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    leave()
