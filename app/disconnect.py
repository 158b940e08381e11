"""The client leaving: work for a request ends when nobody is there to read its reply."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
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
    async with cancelled_on_disconnect(client, receive):
        return await work


@asynccontextmanager
async def cancelled_on_disconnect(client: Client | None, receive: Receive) -> AsyncIterator[None]:
    """Cancel the body of the `async with` when the client leaves; the body must have been read.

    A connection that offers no Client is asked by a task. Raises ClientDisconnected in place of
    the cancellation it caused; any other cancellation passes through.
    """
    task = asyncio.current_task()
    assert task is not None
    has_left = False

    def leave() -> None:
        nonlocal has_left
        has_left = True
        task.cancel()

    with watched(client, leave) if client else received(receive, leave):
        try:
            yield
        except asyncio.CancelledError:
            if has_left and task.uncancel() == 0:
                raise ClientDisconnected("The client left before its reply was complete.") from None
            raise


@contextmanager
def watched(client: Client, leave: Callable[[], None]) -> Iterator[None]:
    """Told by the connection; at once if the client has left already."""
    client.watch(leave)
    try:
        if client.has_left:
            leave()
        yield
    finally:
        client.unwatch(leave)


@contextmanager
def received(receive: Receive, leave: Callable[[], None]) -> Iterator[None]:
    watcher = asyncio.create_task(until_disconnected(receive, leave))
    try:
        yield
    finally:
        watcher.cancel()


async def until_disconnected(receive: Receive, leave: Callable[[], None]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    leave()
