"""Several generations in, one sequence of their outputs out, in the order in which they come."""

import asyncio
from collections.abc import Coroutine, Sequence
from contextlib import aclosing
from typing import Any

from app.engine.base import Generation, Output

Numbered = tuple[int, Output]


class MergedGenerations:
    """Outputs of all generations, each with its generation's number; always close it.

    On average one output of each waits, so a slow reader holds the engine's deltas back, where
    vLLM merges them. The first failure ends the iteration with its exception.
    """

    def __init__(self, submissions: Sequence[Coroutine[Any, Any, Generation]]) -> None:
        self._queue: asyncio.Queue[Numbered | Exception | None] = asyncio.Queue(len(submissions))
        self._tasks = [asyncio.create_task(self._pump(*each)) for each in enumerate(submissions)]
        self._running = len(self._tasks)
        self._first: Numbered | None = None

    async def wait_for_first(self) -> None:
        """Wait until there is an output; closes itself if that fails."""
        try:
            self._first = await anext(self)
        except BaseException:
            await self.aclose()
            raise

    async def collect(self) -> list[Numbered]:
        """All outputs to the end."""
        try:
            return [each async for each in self]
        finally:
            await self.aclose()

    def __aiter__(self) -> "MergedGenerations":
        return self

    async def __anext__(self) -> Numbered:
        if self._first is not None:
            first, self._first = self._first, None
            return first
        while self._running:
            entry = await self._queue.get()
            if isinstance(entry, Exception):
                raise entry
            if entry is not None:
                return entry
            self._running -= 1
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Abort what is still running; a second call does nothing."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _pump(self, number: int, submission: Coroutine[Any, Any, Generation]) -> None:
        try:
            async with aclosing(await submission) as generation:
                async for output in generation:
                    await self._queue.put((number, output))
        except Exception as error:  # noqa: BLE001 - raised again where the outputs are read
            await self._queue.put(error)
        else:
            await self._queue.put(None)
