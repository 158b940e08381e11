"""An engine that outlives its own death: watched, replaced, and given its adapters back.

Knows engines as `base.Engine` alone, and how to make one. A request that has had no output is run
again on the next engine; one that has had some gets its error from the engine that died.
"""

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from PIL.Image import Image

from app.engine.base import (
    ANYBODY,
    Adapter,
    Engine,
    Generation,
    Layer,
    Limits,
    Origin,
    RenderedPrompt,
    Sampling,
    Status,
    Tokenizer,
)
from app.errors import Draining, EngineDead, EngineDeadAgain, EngineRestarting, ServerError
from app.metrics import Metrics
from app.pulse import Pulse
from app.settings import Settings

logger = logging.getLogger(__name__)

MAX_BACKOFF_SECONDS = 60.0

UP: frozenset[Status] = frozenset({"ready", "stalled"})


class SupervisedEngine:
    """One engine after the other behind `base.Engine`.

    If the first does not start, that is final; those that follow may fail a number of times.
    """

    tokenizer: Tokenizer
    limits: Limits
    layers: Mapping[str, Layer]
    description = ""

    def __init__(self, make: Callable[[], Engine], settings: Settings, metrics: Metrics) -> None:
        self._make = make
        self._settings = settings
        self._engine = make()
        self._phase: Status = "loading"
        self._pulse = Pulse(settings.hang_seconds)
        self._down_since = math.inf
        self._failures: deque[float] = deque()
        self._adapters: dict[int, Adapter] = {}
        self._pinned: set[int] = set()
        self._restoring = asyncio.Lock()
        self._waiting: set[asyncio.Future[None]] = set()
        self._supervising: asyncio.Task[None] | None = None
        self._restarts = metrics.engine_restarts
        metrics.engine_ready.set_function(lambda: self.status == "ready")
        metrics.engine_silence.set_function(lambda: self._pulse.silence_seconds)

    @property
    def status(self) -> Status:
        if self._phase == "loading":
            return "failed" if self._engine.status == "failed" else "loading"
        if self._phase != "ready":
            return self._phase
        if self._engine.status == "failed":
            return "restarting"
        is_stalled = self._pulse.silence_seconds > self._settings.stall_seconds
        return "stalled" if is_stalled else "ready"

    async def start(self) -> None:
        """Load the model for the first time. Raises EngineDead."""
        await self._engine.start()
        self._adopt()
        self._supervising = asyncio.create_task(self._supervise())
        self._supervising.add_done_callback(self._note_end)

    def _note_end(self, supervising: asyncio.Task[None]) -> None:
        """Without anybody to supervise it, an engine is as good as dead."""
        self._phase = "failed"
        self._refuse(EngineDead("The engine is not running."))
        if not supervising.cancelled() and supervising.exception():
            logger.error("supervision ended", exc_info=supervising.exception())

    def _adopt(self) -> None:
        """Use the engine that is there now; what waited for one goes on."""
        engine = self._engine
        self.tokenizer, self.limits = engine.tokenizer, engine.limits
        self.layers, self.description = engine.layers, engine.description
        self._phase, self._down_since = "ready", math.inf
        for turn in self._turns():
            turn.set_result(None)

    async def _supervise(self) -> None:
        """Put another engine in the place of each that fails, until that happens too often."""
        while True:
            failure = await self._pulse.failure(self._engine)
            self._phase = "restarting"
            self._down_since = min(self._down_since, time.monotonic())
            await self._engine.close()
            if self._count_failures() > self._settings.max_engine_failures:
                return logger.error("the engine %s once more, and is not started again", failure)
            pause = self._pause_seconds
            logger.error("the engine %s; another one is started in %.3g s", failure, pause)
            self._restarts.labels(failure).inc()
            await asyncio.sleep(pause)
            await self._renew()

    def _count_failures(self) -> int:
        """With this one, as many as have not been forgotten yet."""
        now = time.monotonic()
        self._failures.append(now)
        while now - self._failures[0] > self._settings.engine_failure_seconds:
            self._failures.popleft()
        return len(self._failures)

    @property
    def _pause_seconds(self) -> float:
        pause: float = self._settings.restart_backoff_seconds * 2 ** (len(self._failures) - 1)
        return min(pause, MAX_BACKOFF_SECONDS)

    async def _renew(self) -> None:
        """Start another engine with the adapters of the last; one that fails is left closed."""
        self._engine = engine = self._make()
        started = time.monotonic()
        try:
            await engine.start()
            async with self._restoring:
                for adapter in [*self._adapters.values()]:
                    await self._restore(engine, adapter)
                self._adopt()
            logger.info("the engine is ready after %.0f s", time.monotonic() - started)
        except ServerError as error:
            logger.error("%s", error.message, exc_info=logger.isEnabledFor(logging.DEBUG))
            await engine.close()

    async def _restore(self, engine: Engine, adapter: Adapter) -> None:
        """Nobody listens yet whether the engine lives."""
        try:
            async with asyncio.timeout(self._settings.hang_seconds):
                await engine.add_adapter(adapter)
                if adapter.number in self._pinned:
                    await engine.pin_adapter(adapter)
        except TimeoutError:
            raise EngineDead(f"The new engine hangs over adapter {adapter.name}.") from None

    async def _available(self, arrived: float = math.inf) -> Engine:
        """The engine, waited for while it is started again.

        What arrived while it is down has waited for it since, wherever that was. Raises
        EngineRestarting if it takes too long, and EngineDead.
        """
        if self.status not in UP:
            await self._wait_until_up(arrived)
        return self._engine

    async def _wait_until_up(self, arrived: float) -> None:
        if self.status == "failed":
            raise EngineDead("The engine is not running.")
        waited = max(0.0, time.monotonic() - max(self._down_since, arrived))
        limit = self._settings.restart_wait_seconds - waited
        turn = asyncio.get_running_loop().create_future()
        self._waiting.add(turn)
        try:
            async with asyncio.timeout(limit):
                await turn
        except TimeoutError:
            raise EngineRestarting("The engine has died and is being started again.") from None
        finally:
            self._waiting.discard(turn)

    def _refuse(self, error: ServerError) -> None:
        """Tell what waits for an engine that it waits in vain."""
        for turn in self._turns():
            turn.set_exception(error)

    def _turns(self) -> list[asyncio.Future[None]]:
        """Of what waits for an engine, and has not been cancelled just now."""
        return [turn for turn in self._waiting if not turn.done()]

    async def submit(
        self,
        prompt: RenderedPrompt,
        sampling: Sampling,
        adapter: Adapter | None,
        origin: Origin = ANYBODY,
    ) -> Generation:
        """Start a request and wait for its first output, on another engine if one dies over it.

        Raises EngineRestarting and EngineDeadAgain beside what `base.Submitter` raises.
        """
        for _ in range(self._settings.max_reruns):
            engine = await self._available(origin.arrived)
            with suppress(EngineDead):
                return await engine.submit(prompt, sampling, adapter, origin)
        engine = await self._available(origin.arrived)
        try:
            return await engine.submit(prompt, sampling, adapter, origin)
        except EngineDead as error:
            if self._settings.max_reruns == 0:
                raise
            raise EngineDeadAgain(error.message) from error

    async def add_adapter(self, adapter: Adapter) -> None:
        """Load it, and again into each engine that follows."""
        await (await self._available()).add_adapter(adapter)
        self._adapters[adapter.number] = adapter

    async def remove_adapter(self, adapter: Adapter) -> None:
        """Free its memory; the next engine does not get it."""
        async with self._restoring:
            self._adapters.pop(adapter.number, None)
            self._pinned.discard(adapter.number)
            if self.status in UP:
                with suppress(EngineDead):
                    await self._engine.remove_adapter(adapter)

    async def pin_adapter(self, adapter: Adapter) -> None:
        await (await self._available()).pin_adapter(adapter)
        self._pinned.add(adapter.number)

    async def illustrate(self, prompt: RenderedPrompt, images: Sequence[Image]) -> RenderedPrompt:
        return await (await self._available()).illustrate(prompt, images)

    async def heartbeat(self) -> None:
        await (await self._available()).heartbeat()

    async def abort_all(self) -> None:
        """End what is running; what waits for an engine raises Draining."""
        self._refuse(Draining("The server is shutting down."))
        if self.status in UP:
            await self._engine.abort_all()

    async def close(self) -> None:
        """Stop the engine, also one that is just being started."""
        if self._supervising is not None:
            self._supervising.cancel()
            await asyncio.wait([self._supervising])
        await self._engine.close()
