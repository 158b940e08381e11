"""Several generations in, one sequence of their outputs out, in the order in which they come."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing

from app.engine.base import Generation, Output
from app.primed import Primed

Numbered = tuple[int, Output]
Count = Callable[[Output], None]
Submit = Callable[[], Awaitable[Generation]]


class MergedGenerations(Primed[Numbered]):
    """Outputs of all generations, each with its generation's number.

    On average one output of each may wait, so a slow reader holds the others back in the engine,
    which merges them. The first failure ends the iteration with its exception.
    """

    def __init__(self, submissions: Sequence[Submit], count_unread: Count) -> None:
        """`count_unread` is told each output that was made and is not going to be read."""
        super().__init__()
        self._count_unread = count_unread
        self._places = asyncio.Semaphore(len(submissions))
        self._queue: asyncio.Queue[Numbered | asyncio.Task[None]] = asyncio.Queue()
        self._tasks = [asyncio.create_task(self._pump(*each)) for each in enumerate(submissions)]
        for task in self._tasks:
            task.add_done_callback(self._queue.put_nowait)
        self._running = len(self._tasks)

    async def collect(self, count: Count) -> list[Output]:
        """The outputs to the end, in the order of their generations; counts each as it comes."""
        numbered = []
        try:
            async for each in self:
                numbered.append(each)
                count(each[1])
        finally:
            await self.aclose()
        return [output for _, output in sorted(numbered, key=lambda each: each[0])]

    async def next(self) -> Numbered:
        while self._running:
            entry = await self._queue.get()
            if isinstance(entry, tuple):
                self._places.release()
                return entry
            self._running -= 1
            entry.result()
        raise StopAsyncIteration

    async def aclose(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        waiting = [] if self._first is None else [self._first]
        self._first = None
        while not self._queue.empty():
            entry = self._queue.get_nowait()
            waiting += [entry] if isinstance(entry, tuple) else []
        for _, output in waiting:
            self._count_unread(output)

    async def _pump(self, number: int, submit: Submit) -> None:
        async with aclosing(await submit()) as generation:
            async for output in generation:
                try:
                    await self._places.acquire()
                except asyncio.CancelledError:
                    self._count_unread(output)
                    raise
                self._queue.put_nowait((number, output))
