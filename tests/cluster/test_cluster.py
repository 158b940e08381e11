"""The command with two replicas of the demo model. One cluster for all of it; takes minutes."""

import asyncio
import os
import re
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import pytest_asyncio

from tests.sse_client import events, read_event

pytest.importorskip("ray")
pytestmark = pytest.mark.engine

ROOT = Path(__file__).parents[2]
START_SECONDS = 420
STOP_SECONDS = 60
LISTENING = re.compile(r"listening on (http://\S+),")
KEY = {"authorization": "Bearer sesame"}
OPTIONS = (
    *("--port", "0", "--api-keys", "sesame"),
    *("--min-replicas", "2", "--max-replicas", "2", "--replica-cpus", "0.5"),
)
LONG: dict[str, Any] = {"stream": True, "max_tokens": 1000, "min_tokens": 1000, "ignore_eos": True}


class Cluster:
    def __init__(self, command: asyncio.subprocess.Process, url: str) -> None:
        self.command = command
        self.client = httpx.AsyncClient(base_url=url, headers=KEY, timeout=60)

    async def until(self, condition: Callable[[str], bool], seconds: float = START_SECONDS) -> None:
        """Wait until the metrics are so."""
        async with asyncio.timeout(seconds):
            while not condition((await self.client.get("/metrics")).text):
                await asyncio.sleep(0.2)

    def processes(self) -> list[psutil.Process]:
        return psutil.Process(self.command.pid).children(recursive=True)

    def replicas(self) -> list[psutil.Process]:
        return [each for each in self.processes() if "ray::ServeReplica" in "".join(each.cmdline())]


def are_ready(count: int) -> Callable[[str], bool]:
    return lambda text: f"slipstream_cluster_replicas_ready {count}.0" in text


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    folder = tmp_path_factory.mktemp("cluster")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("LLM_", "RAY_"))}
    console = folder / "console"
    with console.open("wb") as output:
        command = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "app.cluster", "--log-dir", str(folder), *OPTIONS),
            cwd=ROOT,
            env=environment,
            stderr=output,
        )
    try:
        async with asyncio.timeout(START_SECONDS):
            while not (found := LISTENING.search(console.read_text())):
                assert command.returncode is None, console.read_text()
                await asyncio.sleep(0.05)
        running = Cluster(command, found[1])
        async with running.client:
            await running.until(are_ready(2))
            yield running
    finally:
        if command.returncode is None:
            command.terminate()
            async with asyncio.timeout(STOP_SECONDS):
                await command.wait()


def chat(text: str, **fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], **fields}


async def ask(cluster: Cluster, text: str, **headers: str) -> str:
    """The replica that answered."""
    body = chat(text, max_tokens=4)
    reply = await cluster.client.post("/chat", json=body, headers=headers)
    assert reply.status_code == 200
    return reply.headers["x-replica"]


async def test_load_is_spread_and_the_metrics_show_it(cluster: Cluster) -> None:
    asked = Counter(await asyncio.gather(*(ask(cluster, f"question {n}") for n in range(100))))
    text = (await cluster.client.get("/metrics")).text

    assert len(asked) == 2
    for replica, count in asked.items():
        assert count > 20
        assert f'{{outcome="answered",replica="{replica}"}} {count}.0' in text
        assert (
            f'vllm:num_requests_running{{engine="0",model_name="slipstream-demo",replica="{replica}"}}'
            in text
        )


async def test_a_session_stays_with_one_replica(cluster: Cluster) -> None:
    for session in ("anne", "bob"):
        headers = {"x-session-id": session}
        assert len({await ask(cluster, f"question {n}", **headers) for n in range(20)}) == 1


async def test_conversations_with_the_same_instructions_stay_with_one_replica(
    cluster: Cluster,
) -> None:
    rules = {"role": "system", "content": "Be brief. " * 200}
    seen = set()
    for number in range(10):
        messages = [rules, {"role": "user", "content": f"question {number}"}]
        body = {"messages": messages, "max_tokens": 4}
        seen.add((await cluster.client.post("/chat", json=body)).headers["x-replica"])

    assert len(seen) == 1


async def test_a_client_that_leaves_ends_its_generation(cluster: Cluster) -> None:
    async with cluster.client.stream("POST", "/chat", json=chat("a", **LONG)) as reply:
        await read_event(reply.aiter_lines())
        replica = reply.headers["x-replica"]
    running = re.compile(rf'vllm:num_requests_running{{.*replica="{replica}"}} 0\.0')

    await cluster.until(lambda text: running.search(text) is not None, 10)


async def test_a_killed_replica_costs_its_own_streams_an_error_event_and_comes_back(
    cluster: Cluster,
) -> None:
    begun = asyncio.Semaphore(0)

    async def converse(number: int) -> tuple[str, list[Any]]:
        body = chat(f"question {number}", **LONG)
        async with cluster.client.stream("POST", "/chat", json=body) as reply:
            lines = reply.aiter_lines()
            await read_event(lines)
            begun.release()
            rest = "".join([f"{line}\n\n" async for line in lines if line])
            return reply.headers["x-replica"], events(rest)

    streams = [asyncio.create_task(converse(number)) for number in range(12)]
    for _ in streams:
        await asyncio.wait_for(begun.acquire(), 60)
    victim = cluster.replicas()[0]
    children = victim.children(recursive=True)
    victim.kill()
    survivors = {await ask(cluster, f"meanwhile {number}") for number in range(10)}
    ended = await asyncio.gather(*streams)

    dead = [rest for replica, rest in ended if replica not in survivors]
    alive = [rest for replica, rest in ended if replica in survivors]
    assert len(survivors) == 1
    assert all(rest[-1]["error"]["code"] == "replica_failed" for rest in dead)
    assert all("error" not in event for rest in dead for event in rest[:-1])
    assert all(rest[-1] == "[DONE]" for rest in alive)
    assert len(dead) > 0
    await cluster.until(are_ready(1))
    await cluster.until(are_ready(2))
    assert not [child for child in children if child.is_running()]
    assert len({await ask(cluster, f"afterwards {number}") for number in range(40)}) == 2


async def test_sigterm_ends_it_with_0_and_leaves_no_process(cluster: Cluster) -> None:
    """The last test: the cluster is gone after it."""
    processes = cluster.processes()
    assert len(cluster.replicas()) == 2

    cluster.command.send_signal(signal.SIGTERM)
    await asyncio.wait_for(cluster.command.wait(), STOP_SECONDS)

    assert cluster.command.returncode == 0
    _, left = psutil.wait_procs(processes, timeout=10)
    assert left == []
