"""One generation that several requests read, each at its own pace."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence

from app.engine.base import ANYBODY, Generation, Origin, Output, Take, forget
from app.reuse.outputs import MergedCompletion, MergedOutput, merged

OUTPUTS_MERGED = 64
"""So many outputs of a stream that one request reads become one: they are kept for whoever joins,
and as the engine's objects they take 600 bytes a token instead of 50."""


class Lost(Exception):
    """The one request that pulled the generation was cancelled meanwhile, and it with it."""


class Given:
    """Deltas that go straight to the only reader, noted for whoever joins it."""

    def __init__(self, flight: "Flight", take: Take) -> None:
        self._flight = flight
        self._take = take
        self._texts: list[str] = []
        self._token_ids: list[int] = []

    def take(self, text: str, token_ids: Sequence[int]) -> bool:
        """Nothing any more where there is a second reader."""
        if self._flight.num_readers > 1 or not self._take(text, token_ids):
            return False
        self._texts.append(text)
        self._token_ids += token_ids
        return True

    @property
    def is_any(self) -> bool:
        return bool(self._texts)

    @property
    def output(self) -> MergedOutput:
        completion = MergedCompletion(0, "".join(self._texts), self._token_ids, None, None)
        return MergedOutput([completion], None, None, False)


class Flight:
    """A generation that runs as long as a request wants it, and its outputs so far.

    Its only reader pulls the outputs itself, at the cost of a reference each. As soon as there are
    several, a task pulls them: none waits for another, and none takes it away from the others.
    """

    def __init__(
        self,
        begin: Callable[["Flight"], Awaitable[Generation]],
        complete: Callable[["Flight"], None],
        close: Callable[["Flight"], None],
    ) -> None:
        """`complete` is called when all outputs are there, `close` when the last reader leaves."""
        self.outputs: list[Output] = []
        self.generation: Generation | None = None
        self.num_readers = 0
        self.abandon: Callable[[int], None] = forget
        """A reader's, and in the end the last one's: told what nobody is going to read."""

        self.deadline = -math.inf
        """The latest of its readers': until then somebody wants it."""

        self._num_read = 0
        self.num_merged = 0
        self._complete = complete
        self._close = close
        self._is_over = False
        self._failure: BaseException | None = None
        self._news: asyncio.Event | None = None
        self._is_pulled_alone = False
        self._beginning = asyncio.create_task(self._begin(begin))
        self._pump: asyncio.Task[None] | None = None

    @property
    def is_failed(self) -> bool:
        """Whether it is of no use to a new reader."""
        return self._failure is not None

    async def _begin(self, begin: Callable[["Flight"], Awaitable[Generation]]) -> None:
        try:
            self.generation = await begin(self)
            self._take(await anext(self.generation))
        except BaseException as error:
            self._failure = error
            raise

    async def join(self, origin: Origin = ANYBODY) -> "FlightReader":
        """Read it from its beginning, once there is one. Raises Lost, and what ended it before.

        A reader that is alone with it right now may still take it away, so that is waited for.
        """
        self.num_readers += 1
        self.abandon = abandon = origin.abandon
        self.deadline = max(self.deadline, origin.deadline)
        try:
            await asyncio.shield(self._beginning)
            while self._is_pulled_alone:
                await self._wait()
            if isinstance(self._failure, asyncio.CancelledError):
                raise Lost
        except BaseException:
            await self.leave(abandon)
            raise
        return FlightReader(self, abandon)

    async def leave(self, abandon: Callable[[int], None], position: int = 0) -> None:
        """One reader less; with the last one the generation is aborted."""
        self.num_readers -= 1
        self._num_read = max(self._num_read, position)
        if self.num_readers:
            return
        self.abandon = abandon
        self._close(self)
        if self._num_read < len(self.outputs):
            abandon(num_tokens_of(self.outputs[self._num_read :]))
        try:
            await self._end_tasks()
        finally:
            generation, self.generation = self.generation, None  # it knows us too
            if generation is not None:
                await generation.aclose()

    async def _end_tasks(self) -> None:
        """What failed in them, readers have been told."""
        tasks = [task for task in (self._beginning, self._pump) if task is not None]
        for task in tasks:
            task.cancel()
        if not all(map(has_succeeded, tasks)):
            await asyncio.gather(*tasks, return_exceptions=True)

    async def more(self, given: Given | None = None) -> None:
        """Wait for another output, behind one of all that is given to the only reader meanwhile.

        Raises StopAsyncIteration behind the last, and failures.
        """
        if self._is_over:
            raise StopAsyncIteration
        if self._failure is not None:
            raise self._failure
        if self._pump is None and self.num_readers == 1:
            self._is_pulled_alone = True
            try:
                await self._pull(given)
            finally:
                self._is_pulled_alone = False
                self._tell()
        else:
            self._pump = self._pump or asyncio.create_task(self._pull_all())
            await self._wait()

    def merge_read(self, position: int) -> int:
        """Make one of the outputs that the only reader has read; returns where it is then."""
        if self.num_readers > 1:
            return position
        read = slice(self.num_merged, position)
        self.outputs[read] = [merged(self.outputs[read])]
        self.num_merged += 1
        return self.num_merged

    async def _pull_all(self) -> None:
        while not self._is_over:
            await self._pull()
            self._tell()

    async def _pull(self, given: Given | None = None) -> None:
        try:
            self._take(await self._next(given))
        except StopAsyncIteration:
            self._is_over = True
        except BaseException as error:
            self._failure = error
            self._tell()
            raise

    async def _next(self, given: Given | None) -> Output:
        assert self.generation is not None
        if given is None:
            return await anext(self.generation)
        try:
            return await self.generation.pushed(given.take)
        finally:
            if given.is_any:
                self.outputs.append(given.output)

    def _take(self, output: Output) -> None:
        self.outputs.append(output)
        if output.finished:
            self._is_over = True
            self._complete(self)

    async def _wait(self) -> None:
        self._news = self._news or asyncio.Event()
        await self._news.wait()

    def _tell(self) -> None:
        if self._news is not None:
            self._news.set()
            self._news = None


class FlightReader:
    """One request's `base.Generation` of a flight."""

    __slots__ = ("_abandon", "_flight", "_position")

    def __init__(self, flight: Flight, abandon: Callable[[int], None]) -> None:
        self._abandon = abandon
        self._flight: Flight | None = flight
        self._position = 0

    def __aiter__(self) -> "FlightReader":
        return self

    async def __anext__(self) -> Output:
        flight = self._flight
        if flight is None:
            raise StopAsyncIteration
        while self._position == len(flight.outputs):
            await flight.more()
        output = flight.outputs[self._position]
        self._position += 1
        if self._position - flight.num_merged >= OUTPUTS_MERGED:
            self._position = flight.merge_read(self._position)
        return output

    async def pushed(self, take: Take) -> Output:
        """See `base.Generation`; of what others read too nothing is given away."""
        flight = self._flight
        if flight is not None and self._position == len(flight.outputs):
            given = Given(flight, take)
            try:
                await flight.more(given)
            finally:
                self._position += given.is_any
        return await anext(self)

    @property
    def num_tokens(self) -> int | None:
        """Of the generation, however far this reader is."""
        flight = self._flight
        return flight.generation.num_tokens if flight and flight.generation else None

    async def aclose(self) -> None:
        flight, self._flight = self._flight, None
        if flight is not None:
            await flight.leave(self._abandon, self._position)


def has_succeeded(task: asyncio.Task[None]) -> bool:
    return task.done() and not task.cancelled() and task.exception() is None


def num_tokens_of(outputs: Sequence[Output]) -> int:
    return sum(len(each.token_ids) for output in outputs for each in output.outputs)
