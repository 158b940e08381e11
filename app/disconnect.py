"""The client leaving: work for a request ends when nobody is there to read its reply."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import TypeVar

from litestar.types import Receive

from app.errors import ClientDisconnected

T = TypeVar("T")


async def run_unless_disconnected(receive: Receive, work: Coroutine[None, None, T]) -> T:
    """Await `work`, cancelled when the client leaves first.

    Litestar lets a plain handler run to its end for nobody. Raises ClientDisconnected, and
    whatever `work` raises.
    """
    async with cancelled_on_disconnect(receive):
        return await work


@asynccontextmanager
async def cancelled_on_disconnect(receive: Receive) -> AsyncIterator[None]:
    """Cancel the body of the `async with` when the client leaves; the body must have been read.

    Raises ClientDisconnected in place of the cancellation it caused; any other cancellation
    passes through.
    """
    task = asyncio.current_task()
    assert task is not None
    watcher = asyncio.create_task(cancel_on_disconnect(receive, task))
    try:
        yield
    except asyncio.CancelledError:
        if watcher.done() and task.uncancel() == 0:
            raise ClientDisconnected("The client left before its reply was complete.") from None
        raise
    finally:
        watcher.cancel()


async def cancel_on_disconnect(receive: Receive, task: asyncio.Task[object]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    task.cancel()
