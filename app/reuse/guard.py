"""A store that may be slow, full, gone or full of garbage, without harm to any request."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

from litestar.stores.base import Store
from redis.exceptions import RedisError

from app.metrics import Metrics

logger = logging.getLogger(__name__)

Operation = Literal["get", "set"]

REST_SECONDS = 5.0
"""How long nothing is asked of a store that failed: waiting costs each request its limit."""


MOST_WRITES = 64
"""Values on their way that nobody waits for; with more, the store is too slow for them."""


class Circuit:
    """The way to a server: closed for a while by what fails on it, which is counted and logged."""

    def __init__(self, limit_seconds: float, metrics: Metrics) -> None:
        self.metrics = metrics
        self._limit = limit_seconds
        self._rests_until: dict[Operation, float] = {}

    @asynccontextmanager
    async def guarded(self, operation: Operation) -> AsyncIterator[bool]:
        """Whether to ask at all; what fails in the block ends it, and is not raised."""
        if self._is_resting(operation):
            yield False
            return
        try:
            async with asyncio.timeout(self._limit):
                yield True
        except (OSError, RedisError) as error:
            self._rest(operation, error)
        else:
            self._resume(operation)

    def _is_resting(self, operation: Operation) -> bool:
        """A full server still answers; one that does not answer is not to be filled."""
        until = max(self._rests_until.get(each, 0.0) for each in ("get", operation))
        return time.monotonic() < until

    def _rest(self, operation: Operation, error: Exception) -> None:
        self.metrics.store_errors.labels(operation).inc()
        if operation not in self._rests_until:
            reason = str(error) or f"no answer within {self._limit} s"
            logger.warning("the store's %s fails (%s); doing without it", operation, reason[:200])
        self._rests_until[operation] = time.monotonic() + REST_SECONDS

    def _resume(self, operation: Operation) -> None:
        if self._rests_until.pop(operation, None) is not None:
            logger.warning("the store's %s works again", operation)


class GuardedStore:
    """Values under keys, as long as the way to the store is open; else there are none."""

    def __init__(self, store: Store, circuit: Circuit) -> None:
        self._store = store
        self._circuit = circuit
        self._writes: set[asyncio.Task[None]] = set()

    async def get(self, key: str) -> bytes | None:
        """The value; None for none, and where it cannot be had."""
        async with self._circuit.guarded("get") as may_ask:
            return await self._store.get(key) if may_ask else None
        return None

    async def set(self, key: str, value: bytes, seconds: int) -> None:
        async with self._circuit.guarded("set") as may_ask:
            if may_ask:
                await self._store.set(key, value, seconds)

    def set_later(self, key: str, value: bytes, seconds: int) -> None:
        """The same without waiting."""
        if len(self._writes) < MOST_WRITES:
            write = asyncio.create_task(self.set(key, value, seconds))
            self._writes.add(write)
            write.add_done_callback(self._writes.discard)

    async def settle(self) -> None:
        """Wait for what is on its way, which has its limit."""
        await asyncio.gather(*self._writes)

    def note_garbage(self) -> None:
        """What was found is nothing that was kept by us."""
        self._circuit.metrics.store_errors.labels("garbage").inc()
