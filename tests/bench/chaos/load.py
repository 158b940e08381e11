"""Requests at random times, a fifth of whose clients leave before the end."""

import asyncio
import time
from collections.abc import Mapping

import httpx

from tests.bench.chaos.asks import Ask, Asker
from tests.bench.chaos.records import Broken, Record

LEAVING = 0.2
LEAVE_WITHIN_SECONDS = 1.5
MOST_AT_ONCE = 256
"""Beyond that no more are begun: an engine that is away must not be buried meanwhile."""


class Load:
    """A Poisson process of requests to one server, and what became of each."""

    def __init__(
        self, name: str, asker: Asker, kinds: Mapping[str, tuple[Ask, float]], rate: float
    ) -> None:
        self.records: list[Record] = []
        self._name = name
        self._asker = asker
        self._generator = asker.generator
        self._kinds = kinds
        self._rate = rate
        self._running: set[asyncio.Task[None]] = set()

    async def run(self, seconds: float) -> None:
        """Ask for so long, and wait for the last answer."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            await asyncio.sleep(self._generator.expovariate(self._rate))
            if len(self._running) < MOST_AT_ONCE:
                self._begin()
        if self._running:
            await asyncio.wait(self._running)

    def _begin(self) -> None:
        names, weights = zip(*((name, each[1]) for name, each in self._kinds.items()), strict=True)
        (kind,) = self._generator.choices(names, weights)
        record = Record(f"{self._name}-{len(self.records)}", kind, time.monotonic())
        self.records.append(record)
        task = asyncio.create_task(self._ask(self._kinds[kind][0], record, self._patience()))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    def _patience(self) -> float | None:
        """Seconds until the client leaves; None for one that stays."""
        leaves = self._generator.random() < LEAVING
        return self._generator.uniform(0, LEAVE_WITHIN_SECONDS) if leaves else None

    async def _ask(self, ask: Ask, record: Record, patience: float | None) -> None:
        try:
            async with asyncio.timeout(patience):
                await ask(self._asker, record)
        except TimeoutError:
            record.outcome = "left"
        except (httpx.TransportError, Broken) as error:
            record.outcome = "cut" if record.kind == "stalled" else "broken"
            record.detail = repr(error)
        finally:
            record.seconds = time.monotonic() - record.began
