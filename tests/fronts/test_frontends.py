"""The command with two frontends of the demo model, as a client and an operator see them."""

import asyncio
import re
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import pytest_asyncio

from tests.engine.adapter import make_adapter
from tests.engine.test_leash import is_alive
from tests.test_process import Running, start

pytestmark = pytest.mark.engine

STOP_SECONDS = 60
OPTIONS = (
    *("--frontends", "2", "--idempotency-seconds", "0", "--max-engine-failures", "0"),
    *("--max-pinned-loras", "0", "--admin-keys", "boss"),
)
ADMIN = {"authorization": "Bearer boss"}
NUM_CONNECTIONS = 24
"""That the kernel gives them all to one of two frontends: once in 8 million times."""

LONG: dict[str, Any] = {"prompt": "Hello", "max_tokens": 600, "ignore_eos": True, "stream": True}
ANSWERED = re.compile(
    "slipstream_http_requests_total"
    r'{frontend="(\d)",method="POST",route="/chat",status="200"} (\d+)'
)


RUNNING = re.compile(r"vllm:num_requests_running{.*} (\S+)")


class Server:
    """The command, and the processes it has started."""

    def __init__(self, running: Running) -> None:
        self.running = running
        self.url = running.url
        self.family = psutil.Process(running.process.pid).children(recursive=True)

    def started_as(self, part: str) -> list[psutil.Process]:
        return [each for each in self.family if part in " ".join(each.cmdline())]

    async def ends_with(self, status: int) -> None:
        """With nothing left behind."""
        async with asyncio.timeout(STOP_SECONDS):
            assert await self.running.process.wait() == status
            while any(is_alive(each.pid) for each in self.family):
                await asyncio.sleep(0.05)

    async def until_running(self, count: int) -> None:
        """Requests in the engine, by the sum of what all frontends say of it."""
        async with (
            httpx.AsyncClient(base_url=self.url, headers=ADMIN) as client,
            asyncio.timeout(60),
        ):
            while sum(map(float, RUNNING.findall((await client.get("/metrics")).text))) != count:
                await asyncio.sleep(0.05)

    async def ask_each(self, body: dict[str, Any]) -> list[httpx.Response]:
        """On a connection for each, so that both frontends are asked."""
        clients = [httpx.AsyncClient(base_url=self.url, timeout=60) for _ in range(NUM_CONNECTIONS)]
        try:
            return await asyncio.gather(*(each.post("/chat", json=body) for each in clients))
        finally:
            for each in clients:
                await each.aclose()


@asynccontextmanager
async def serving(folder: Path, *options: str) -> AsyncIterator[Server]:
    running = Running(await start(folder, *OPTIONS, *options), folder)
    try:
        await running.wait_until_ready()
        await until_all_are_ready(running.url)
        yield Server(running)
    finally:
        if running.process.returncode is None:
            running.process.kill()
            await running.process.wait()


async def until_all_are_ready(url: str) -> None:
    async with httpx.AsyncClient(base_url=url, headers=ADMIN) as client, asyncio.timeout(60):
        while (await client.get("/metrics")).text.count("slipstream_engine_ready{") < 2:
            await asyncio.sleep(0.1)
        for index in range(2):
            ready = f'slipstream_engine_ready{{frontend="{index}"}} 1.0'
            while ready not in (await client.get("/metrics")).text:
                await asyncio.sleep(0.1)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    logs = tmp_path_factory.mktemp("logs")
    make_adapter(logs / "adapters" / "noise")
    adapters = ("--adapter-dir", str(logs / "adapters"))
    async with serving(logs, *adapters, "--drain-seconds", "300") as server:
        yield server


def question(model: str | None = None) -> dict[str, Any]:
    body = {"messages": [{"role": "user", "content": "Hello"}], "temperature": 0, "max_tokens": 16}
    return body | ({"model": model} if model else {})


async def test_both_answer_alike_and_either_knows_the_metrics_of_both(server: Server) -> None:
    replies = await server.ask_each(question())
    async with httpx.AsyncClient(base_url=server.url, headers=ADMIN) as client:
        text = (await client.get("/metrics")).text

    assert {each.json()["response"] for each in replies} == {"Hello! How can I help you today?"}
    counts = {index: int(count) for index, count in ANSWERED.findall(text)}
    assert counts.keys() == {"0", "1"}
    assert sum(counts.values()) == NUM_CONNECTIONS
    assert (server.running.folder / "frontend-1" / "slipstream.log").stat().st_size


async def test_an_adapter_that_one_has_loaded_or_unloaded_is_so_for_both_at_once(
    server: Server,
) -> None:
    base = (await server.ask_each(question()))[0].json()["response"]
    async with httpx.AsyncClient(base_url=server.url, headers=ADMIN, timeout=60) as admin:
        source = {"name": "hum", "folder": "noise"}
        assert (await admin.post("/v1/adapters", json=source)).status_code == 200
        replies = await server.ask_each(question("hum"))
        assert (await admin.delete("/v1/adapters/hum")).status_code == 200
        refusals = await server.ask_each(question("hum"))

    assert {each.status_code for each in replies} == {200}
    texts = {each.json()["response"] for each in replies}
    assert len(texts) == 1
    assert base not in texts
    assert {each.status_code for each in refusals} == {404}


async def test_sigterm_finishes_the_streams_of_both_and_ends_it_with_0(server: Server) -> None:
    """The last test of this server: it ends it."""
    await server.until_running(0)
    streams = await begun(server)
    await server.until_running(NUM_CONNECTIONS)

    server.running.process.send_signal(signal.SIGTERM)

    for each in streams:
        lines = await each.lines
        assert lines[-1] == "data: [DONE]"
        assert len(lines) > 100
    await server.ends_with(0)


async def test_an_engine_that_is_killed_ends_its_streams_with_an_error_and_all_with_70(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path) as server:
        streams = await begun(server)
        [core] = server.started_as("EngineCore")

        core.kill()

        for each in streams:
            assert "error" in "".join((await each.lines)[-2:])
        await server.ends_with(70)


async def test_a_frontend_that_is_killed_takes_no_others_stream_with_it_and_ends_all_with_70(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path) as server:
        streams = await begun(server)

        server.started_as("spawn_main")[0].kill()

        ends = await asyncio.gather(*(each.lines for each in streams), return_exceptions=True)
        whole = [each for each in ends if isinstance(each, list) and each[-1] == "data: [DONE]"]
        broken = [each for each in ends if isinstance(each, httpx.RemoteProtocolError)]
        assert whole and broken
        assert len(whole) + len(broken) == NUM_CONNECTIONS
        await server.ends_with(70)


class Stream:
    """On a connection of its own, read to its end."""

    def __init__(self, url: str) -> None:
        self.begun = asyncio.Event()
        self.lines = asyncio.create_task(self._read(url))

    async def _read(self, url: str) -> list[str]:
        lines = []
        async with (
            httpx.AsyncClient(base_url=url, timeout=300) as client,
            client.stream("POST", "/generate", json=LONG) as stream,
        ):
            async for line in stream.aiter_lines():
                self.begun.set()
                lines += [line] if line else []
        return lines


async def begun(server: Server) -> list[Stream]:
    """Streams of which each has had its first event."""
    streams = [Stream(server.url) for _ in range(NUM_CONNECTIONS)]
    async with asyncio.timeout(60):
        await asyncio.gather(*(each.begun.wait() for each in streams))
    return streams
