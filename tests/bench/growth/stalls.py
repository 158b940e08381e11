"""What long prompts and many messages take, and for how long they stop the event loop.

That is seen from outside, as other clients see it: while chats of one size are asked one after
the other, a probe asks over a connection of its own whether the server lives, again and again.
The longest that it waits is a stall.
"""

import asyncio
import itertools
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from tests.bench.growth.chats import full_chat, long_chat
from tests.bench.growth.connection import CHAT, Connection, check, connected, get, post
from tests.bench.growth.rows import OURS, VLLM, StallsRow
from tests.bench.pauses import without_collections
from tests.bench.standin.asks import Asks, Messages, Prompts
from tests.bench.standin.frontends import Frontend
from tests.bench.standin.tally import WrongAnswers

PROMPT_CHARS = (100, 300, 1000, 3000, 10_000, 30_000)
NUM_MESSAGES = (1, 10, 100, 1000)
NUM_CHATS = 32
"""Of each size: none comes again soon."""

ROUNDS = 5
ROUND_SECONDS = 1.0
PROBE_SECONDS = 0.005
"""From one probe to the next; so much a stall may be longer than what a probe sees of it."""

WAIT_SECONDS = 60
LIVENESS = {OURS: "/health/live", VLLM: "/health"}
IDLE = 0

Chat = Callable[[int, int], Messages]
"""Of a size, and the number of the chat."""


class Round(msgspec.Struct):
    """In seconds; no reply in a round in which nothing is asked."""

    replies: list[float]
    longest_probe: float


def measure_prompts(frontends: Sequence[Frontend], model: Path) -> list[StallsRow]:
    return measure(frontends, model, PROMPT_CHARS, long_chat)


def measure_messages(frontends: Sequence[Frontend], model: Path) -> list[StallsRow]:
    return measure(frontends, model, NUM_MESSAGES, full_chat)


def measure(
    frontends: Sequence[Frontend], model: Path, sizes: Sequence[int], chat: Chat
) -> list[StallsRow]:
    """The first rows are of nothing but probes. Raises WrongAnswers, TimeoutError, OSError."""
    rows = []
    for size in (IDLE, *sizes):
        asks = asks_of(model, size, chat)
        for row in asyncio.run(measure_size(frontends, size, asks)):
            print(row, flush=True)
            rows.append(row)
    return rows


def asks_of(model: Path, size: int, chat: Chat) -> Asks:
    """Plain replies of one token."""
    if size == IDLE:
        return Asks(stream=False, num_tokens=1, asks=[])
    chats = [chat(size, number) for number in range(NUM_CHATS)]
    return Prompts(model, chats).asks(1, stream=False)


async def measure_size(frontends: Sequence[Frontend], size: int, asks: Asks) -> list[StallsRow]:
    """Rounds go round the servers, after one of each that does not count."""
    rounds: dict[str, list[Round]] = {frontend.name: [] for frontend in frontends}
    for number in range(ROUNDS + 1):
        for frontend in frontends if number % 2 else reversed(frontends):
            async with asyncio.timeout(WAIT_SECONDS):
                found = await run_round(frontend, asks)
            if number:
                rounds[frontend.name].append(found)
    return [row_of(server, size, those) for server, those in rounds.items()]


def row_of(server: str, size: int, rounds: Sequence[Round]) -> StallsRow:
    stalls = [each.longest_probe * 1e3 for each in rounds]
    replies = [statistics.median(each.replies) * 1e3 for each in rounds if each.replies]
    return StallsRow(
        server=server,
        size=size,
        reply_ms=statistics.median(replies or [0.0]),
        stall_ms=statistics.median(stalls),
        worst_stall_ms=max(stalls),
    )


async def run_round(frontend: Frontend, asks: Asks) -> Round:
    waits: list[float] = []
    async with connected(frontend.url) as probing, connected(frontend.url) as asking:
        with without_collections():
            probe = asyncio.create_task(keep_probing(probing, LIVENESS[frontend.name], waits))
            try:
                replies = await ask_all(asking, asks)
            finally:
                await end(probe)
    return Round(replies, max(waits))


async def ask_all(connection: Connection, asks: Asks) -> list[float]:
    """One after the other while the round lasts. Raises WrongAnswers."""
    loop, seconds = asyncio.get_running_loop(), []
    deadline = loop.time() + ROUND_SECONDS
    if not asks.asks:
        await asyncio.sleep(ROUND_SECONDS)
    for ask in itertools.cycle(asks.asks):
        if loop.time() > deadline:
            break
        reply = await connection.ask(post(CHAT, ask.body))
        check(reply, ask, asks)
        seconds.append(reply.seconds)
    return seconds


async def keep_probing(connection: Connection, path: str, waits: list[float]) -> None:
    """Note how long each probe waits. Raises WrongAnswers."""
    loop, request = asyncio.get_running_loop(), get(path)
    due = loop.time()
    while True:
        reply = await connection.ask(request)
        if reply.status != 200:
            raise WrongAnswers(f"{path} answers {reply.status}: {reply.body[:500]!r}")
        waits.append(reply.seconds)
        due = max(due + PROBE_SECONDS, loop.time())
        await asyncio.sleep(due - loop.time())


async def end(task: asyncio.Task[None]) -> None:
    """Raises what it has failed with."""
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():
        task.result()
