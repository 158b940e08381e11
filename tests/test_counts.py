"""What a streamed token and a request cost in calls, which no machine's speed is in.

The server runs on the fake engine in a thread of its own, and only that thread is counted.
`just bench standin counts` counts on vLLM's own client too, and says which functions they are.
"""

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import msgspec
import pytest_asyncio
import uvloop

from app.settings import Settings
from tests.bench.standin.calls import CallCounter, Calls
from tests.bench.standin.measure import written_by
from tests.live_server import running_server
from tests.scorecard.engine import TalkingEngine
from tests.sse_client import events

STREAMS = 16
LENGTHS = (8, 264)
ROUNDS = 3
"""The least of so many counts is what the requests cost; a server's own ticks only add to it."""

MOST_CALLS_A_TOKEN = 3.5
"""3.1 were counted; coroutines that go on are calls too."""

MOST_CALLS_A_REQUEST = 580
"""504 were counted."""

MOST_WRITES_A_TOKEN = 1.05
"""An event of its own for each, in one system call."""

MOST_WRITES_A_REQUEST = 2
"""1 was counted: the beginning goes with the first token, and the end with the last."""


class Counts(msgspec.Struct):
    """Of some streams."""

    python: int
    writes: int


class CountedServer:
    """A server in its own thread and loop; what that thread does can be counted from another."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._thread = threading.Thread(target=self._run)
        self._counter = CallCounter()
        self.url = ""

    def _run(self) -> None:
        uvloop.run(self._serve())

    async def _serve(self) -> None:
        self._loop, self._stopped = asyncio.get_running_loop(), asyncio.Event()
        async with running_server(self._settings, TalkingEngine()) as live:
            self.url = live.url
            self._ready.get_loop().call_soon_threadsafe(self._ready.set_result, None)
            await self._stopped.wait()

    async def __aenter__(self) -> "CountedServer":
        self._thread.start()
        await self._ready
        return self

    async def __aexit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stopped.set)
        await asyncio.to_thread(self._thread.join)

    async def count(self, num_tokens: int) -> Counts:
        """Of so many streams of so many tokens each, all at once."""
        task = Path(f"/proc/self/task/{self._thread.native_id}")
        async with httpx.AsyncClient(base_url=self.url, timeout=60) as client:
            before = written_by(task)
            self._loop.call_soon_threadsafe(self._counter.start)
            await asyncio.gather(*(stream(client, num_tokens) for _ in range(STREAMS)))
            calls = await asyncio.wrap_future(
                asyncio.run_coroutine_threadsafe(self._stop(), self._loop)
            )
        return Counts(of_the_server(calls), written_by(task) - before)

    async def least(self, num_tokens: int) -> Counts:
        counts = [await self.count(num_tokens) for _ in range(ROUNDS)]
        return Counts(min(each.python for each in counts), min(each.writes for each in counts))

    async def _stop(self) -> Calls:
        return self._counter.stop()


def of_the_server(calls: Calls) -> int:
    """Python calls, without those of the fake engine."""
    return sum(count for name, count in calls.python.items() if "/tests/" not in name)


async def stream(client: httpx.AsyncClient, num_tokens: int) -> None:
    body = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": num_tokens}
    reply = await client.post(
        "/v1/chat/completions", json=body | {"stream": True, "ignore_eos": True}
    )
    *chunks, done = events(reply.text)
    assert done == "[DONE]"
    pieces = [chunk for chunk in chunks if chunk["choices"][0]["delta"].get("content")]
    assert len(pieces) == num_tokens


@pytest_asyncio.fixture(loop_scope="session")
async def counted() -> AsyncIterator[CountedServer]:
    async with CountedServer(Settings(port=0, model="fake/model")) as server:
        yield server


async def test_a_token_and_a_request_cost_few_calls_and_writes(counted: CountedServer) -> None:
    await counted.count(LENGTHS[0])  # what happens only once has happened
    few, many = [await counted.least(each) for each in LENGTHS]
    calls_a_token, calls_a_request = slopes(few.python, many.python)
    writes_a_token, writes_a_request = slopes(few.writes, many.writes)
    assert calls_a_token < MOST_CALLS_A_TOKEN
    assert calls_a_request < MOST_CALLS_A_REQUEST
    assert writes_a_token < MOST_WRITES_A_TOKEN
    assert writes_a_request < MOST_WRITES_A_REQUEST


def slopes(few: int, many: int) -> tuple[float, float]:
    """A token's and a request's part of what streams of two lengths cost."""
    a_token = (many - few) / (STREAMS * (LENGTHS[1] - LENGTHS[0]))
    return a_token, few / STREAMS - a_token * LENGTHS[0]
