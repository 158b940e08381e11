"""1 to 64 LoRA adapters: requests that go round all of them, and the time to load one more.

With real engines and as released: `max_loras` adapters are in one batch, `max_cpu_loras` further
ones in main memory, and beyond that files are read again. One server runs, the other is stopped.
"""

import asyncio
import itertools
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from tests.bench.growth.connection import CHAT, Connection, connect, num_tokens, post
from tests.bench.growth.engines import (
    adapter_files,
    engine_arguments,
    load_adapter,
    start_server,
)
from tests.bench.growth.rows import OURS, VLLM, AdaptersRow
from tests.bench.peers.machine import frontend_seconds
from tests.bench.peers.peers import Server
from tests.bench.peers.workloads import KEY, chat_body
from tests.bench.standin.tally import WrongAnswers

NUM_ADAPTERS = (1, 2, 4, 8, 16, 32, 64)
CONNECTIONS = 16
TOKENS = 8
ROUNDS = 2
ROUND_SECONDS = 2.0
WARM_UP_SECONDS = 1.0
SETTLE_SECONDS = 0.5
WAIT_SECONDS = 60


class Round(msgspec.Struct):
    replies: int
    seconds: float
    cpu_seconds: float


def measure_adapters(folder: Path) -> list[AdaptersRow]:
    """Raises WrongAnswers, RuntimeError, OSError and httpx.HTTPStatusError."""
    names = {OURS: initial_names(), VLLM: initial_names()}
    rows = []
    with servers(folder) as running:
        for number in NUM_ADAPTERS:
            for server in running:
                with awake(server):
                    row = measure_one(server, names[server.name], number)
                print(row, flush=True)
                rows.append(row)
    return rows


def initial_names() -> list[str]:
    """Of the demo model's own adapters, which both servers start with."""
    return [each.parent.name for each in adapter_files()]


@contextmanager
def servers(folder: Path) -> Iterator[Sequence[Server]]:
    """Both, ready and stopped: each takes all cores to start."""
    running: list[Server] = []
    arguments = engine_arguments()
    try:
        for name in (OURS, VLLM):
            running.append(start_server(name, arguments, folder / name))
            running[-1].until_ready()
            running[-1].pause()
            print(f"{name} is ready", flush=True)
        yield running
    finally:
        for server in running:
            server.close()


@contextmanager
def awake(server: Server) -> Iterator[None]:
    server.resume()
    time.sleep(SETTLE_SECONDS)
    try:
        yield
    finally:
        time.sleep(SETTLE_SECONDS)
        server.pause()


def measure_one(server: Server, names: list[str], number: int) -> AdaptersRow:
    """Load copies until there are so many names, then ask for each in turn."""
    loads = [load_next(server, names) for _ in range(number - len(names))]
    asked = names[:number]
    run_round(server, asked, WARM_UP_SECONDS)
    rounds = [run_round(server, asked, ROUND_SECONDS) for _ in range(ROUNDS)]
    return AdaptersRow(
        server=server.name,
        adapters=number,
        requests_per_second=statistics.mean(each.replies / each.seconds for each in rounds),
        request_us=statistics.mean(each.cpu_seconds * 1e6 / each.replies for each in rounds),
        load_ms=statistics.median(loads) * 1e3 if loads else None,
    )


def load_next(server: Server, names: list[str]) -> float:
    """One more copy; how many seconds that took."""
    sources = [each.parent for each in adapter_files()]
    name, source = f"copy-{len(names)}", sources[len(names) % len(sources)]
    began = time.perf_counter()
    load_adapter(server, name, source)
    seconds = time.perf_counter() - began
    names.append(name)
    return seconds


def run_round(server: Server, names: Sequence[str], seconds: float) -> Round:
    before, began = frontend_seconds(server.processes), time.perf_counter()
    replies = asyncio.run(ask_round(server.url, names, seconds))
    took = time.perf_counter() - began
    return Round(replies, took, frontend_seconds(server.processes) - before)


async def ask_round(url: str, names: Sequence[str], seconds: float) -> int:
    """How many replies came to requests made within so many seconds. Raises WrongAnswers."""
    bodies = (request(name) for name in itertools.cycle(names))
    connections = [await connect(url) for _ in range(CONNECTIONS)]
    try:
        async with asyncio.timeout(seconds + WAIT_SECONDS):
            deadline = time.perf_counter() + seconds
            asking = (keep_asking(each, bodies, deadline) for each in connections)
            return sum(await asyncio.gather(*asking))
    finally:
        for connection in connections:
            connection.close()


numbers = itertools.count()


def request(name: str) -> bytes:
    """No two are alike: no cache answers."""
    content = f"Request {next(numbers)}: tell me a short story about the sea."
    body = chat_body(content, TOKENS, stream=False) | {"model": name}
    return post(CHAT, msgspec.json.encode(body).decode(), KEY)


async def keep_asking(connection: Connection, bodies: Iterator[bytes], deadline: float) -> int:
    replies = 0
    while time.perf_counter() < deadline:
        reply = await connection.ask(next(bodies))
        if reply.status != 200 or num_tokens(reply.body) != TOKENS:
            raise WrongAnswers(f"status {reply.status}: {reply.body[:500]!r}")
        replies += 1
    return replies
