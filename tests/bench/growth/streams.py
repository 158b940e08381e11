"""1 to 2,000 streams at once: what a token of theirs costs, and what an open one holds.

The stand-in core makes exactly as many steps as it is told, at a pace at which all streams
together get the same number of tokens a second, however many they are. So all are open at once,
nothing begins or ends while it is measured, and it is known which tokens the time was spent on.
"""

import asyncio
import math
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from tests.bench.growth.connection import CHAT, Connection, Reply, check, connect, post
from tests.bench.growth.rows import StreamsRow
from tests.bench.standin.asks import Prompts, short_chats
from tests.bench.standin.frontends import Frontend
from tests.bench.standin.measure import cpu_seconds, tree

NUM_STREAMS = (1, 4, 16, 64, 256, 1000, 2000)
TOKENS_PER_SECOND = 4000.0
"""Of all streams together: each frontend carries them without merging any."""

SHORTEST_STEP_SECONDS = 0.001
FIRST_TOKENS = 16
"""That each stream has had when its memory is read."""

WINDOWS = 3
WINDOW_SECONDS = 2.0
QUIET_SECONDS = 0.5
"""Without another event: what was merged does not come any more."""

WAIT_SECONDS = 120
CONNECTS_AT_ONCE = 64


def measure_streams(frontends: Sequence[Frontend], model: Path) -> list[StreamsRow]:
    """The numbers rise, so that what an allocator keeps of fewer streams serves the next."""
    prompts = Prompts(model, short_chats(max(NUM_STREAMS)))
    return asyncio.run(measure_all(frontends, prompts))


async def measure_all(frontends: Sequence[Frontend], prompts: Prompts) -> list[StreamsRow]:
    for frontend in frontends:
        await Burst(frontend, prompts, 1, 0).run()
    idle = {frontend.name: private_bytes(frontend.pid) for frontend in frontends}
    rows = []
    for number in NUM_STREAMS:
        for frontend in frontends:
            row = await Burst(frontend, prompts, number, idle[frontend.name]).run()
            print(row, flush=True)
            rows.append(row)
    return rows


class Burst:
    """So many streams, all open at once, to their end."""

    def __init__(self, frontend: Frontend, prompts: Prompts, number: int, idle_bytes: int) -> None:
        self._frontend = frontend
        self._number = number
        self._idle_bytes = idle_bytes
        self._step_seconds = max(number / TOKENS_PER_SECOND, SHORTEST_STEP_SECONDS)
        self._window_steps = math.ceil(WINDOW_SECONDS / self._step_seconds)
        num_tokens = FIRST_TOKENS + WINDOWS * self._window_steps + 1
        self._asks = prompts.asks(num_tokens, stream=True, most=number)
        self._connections: list[Connection] = []

    async def run(self) -> StreamsRow:
        """Raises WrongAnswers, TimeoutError and OSError."""
        try:
            return await self._measure()
        finally:
            self._frontend.order(0)
            for connection in self._connections:
                connection.close()

    async def _measure(self) -> StreamsRow:
        replies = await self._open()
        await self._steps(FIRST_TOKENS)
        held = private_bytes(self._frontend.pid) - self._idle_bytes
        costs = [await self._window() for _ in range(WINDOWS)]
        await self._steps(1)
        pairs = zip(replies, self._asks.asks, strict=True)
        events = [check(await reply, ask, self._asks) for reply, ask in pairs]
        return StreamsRow(
            server=self._frontend.name,
            streams=self._number,
            token_us=statistics.median(costs),
            least_token_us=min(costs),
            most_token_us=max(costs),
            events_per_token=sum(events) / (self._number * self._asks.num_tokens),
            private_mib=held / 2**20,
            stream_kib=held / 2**10 / self._number,
        )

    async def _open(self) -> list[Awaitable[Reply]]:
        """Ask for all of them, until the core has them all; it makes no step yet."""
        before = self._frontend.order(0, steps=0).added
        while len(self._connections) < self._number:
            left = min(self._number - len(self._connections), CONNECTS_AT_ONCE)
            opened = (connect(self._frontend.url) for _ in range(left))
            self._connections += await asyncio.gather(*opened)
        pairs = zip(self._connections, self._asks.asks, strict=True)
        replies = [connection.ask(post(CHAT, ask.body)) for connection, ask in pairs]
        await until(lambda: self._frontend.counters().added - before == self._number)
        return replies

    async def _steps(self, number: int) -> None:
        """Let the core make so many, until their tokens are here."""
        expected = self._num_events + number * self._number
        steps = self._frontend.order(self._step_seconds, number).steps + number
        await until(lambda: self._frontend.counters().steps == steps)
        await self._arrived(expected)

    async def _arrived(self, expected: int) -> None:
        """Until so many events are here, or none comes any more."""
        seen, since = self._num_events, time.monotonic()
        while seen < expected and time.monotonic() - since < QUIET_SECONDS:
            await asyncio.sleep(0.005)
            if self._num_events > seen:
                seen, since = self._num_events, time.monotonic()

    async def _window(self) -> float:
        """CPU a token, in µs."""
        before = cpu_seconds(self._frontend.pid)
        await self._steps(self._window_steps)
        used = cpu_seconds(self._frontend.pid) - before
        return used * 1e6 / (self._window_steps * self._number)

    @property
    def _num_events(self) -> int:
        return sum(connection.num_events for connection in self._connections)


async def until(holds: Callable[[], bool]) -> None:
    """Raises TimeoutError."""
    async with asyncio.timeout(WAIT_SECONDS):
        while not holds():
            await asyncio.sleep(0.02)


def private_bytes(pid: int) -> int:
    """Memory that only a process and those below it have: what would be free without them."""
    return sum(map(private_bytes_of, tree(pid)))


def private_bytes_of(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    sizes = [int(line.split()[1]) for line in lines if line.startswith("Private_")]
    return sum(sizes) * 2**10
