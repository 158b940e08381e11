"""What is counted is what vLLM has made, read or not."""

import asyncio
from typing import Any

import pytest

from tests.live_server import LiveServer
from tests.sse_client import read_event

pytestmark = pytest.mark.engine

WAIT_SECONDS = 30
LEAST_TOKENS = 50


async def made(live: LiveServer) -> float:
    """By vLLM's own count, since it started."""
    lines = (await live.client.get("/metrics")).text.splitlines()
    return sum(
        float(line.split()[-1]) for line in lines if line.startswith("vllm:generation_tokens_total")
    )


async def counted(live: LiveServer) -> dict[str, int]:
    """By ours."""
    reply = await live.client.get("/v1/usage", params={"group_by": "key"})
    [sums] = reply.json()["data"] or [dict.fromkeys(("aborted_requests", "completion_tokens"), 0)]
    return {name: sums[name] for name in ("aborted_requests", "completion_tokens")}


async def leave_when_made(live: LiveServer, body: dict[str, Any], least: float) -> None:
    """Ask, and leave as soon as the engine has made so much."""
    asked = asyncio.create_task(live.client.post("/v1/completions", json=body))
    async with asyncio.timeout(WAIT_SECONDS):
        while await made(live) < least:
            await asyncio.sleep(0.01)
    assert not asked.done()
    asked.cancel()


async def until_aborted(live: LiveServer, num_aborted: int) -> dict[str, int]:
    async with asyncio.timeout(WAIT_SECONDS):
        while (sums := await counted(live))["aborted_requests"] < num_aborted:
            await asyncio.sleep(0.01)
    return sums


@pytest.mark.parametrize("num_choices", [1, 3])
@pytest.mark.parametrize("prompts", [["a"], ["a", "b"]])
@pytest.mark.parametrize("stream", [False, True])
async def test_what_was_made_for_a_client_that_left_is_counted_to_the_token(
    real_server: LiveServer, stream: bool, prompts: list[str], num_choices: int
) -> None:
    made_before, before = await made(real_server), await counted(real_server)
    body = {"prompt": prompts, "n": num_choices, "stream": stream, "temperature": 1}
    limits = {"max_tokens": 3000, "ignore_eos": True}

    await leave_when_made(real_server, body | limits, made_before + LEAST_TOKENS)
    after = await until_aborted(real_server, before["aborted_requests"] + 1)

    num_made = await made(real_server) - made_before
    assert LEAST_TOKENS <= num_made < 3000
    assert after["completion_tokens"] - before["completion_tokens"] == num_made


@pytest.mark.parametrize("stream", [False, True])
async def test_what_was_read_to_its_end_is_counted_once(
    real_server: LiveServer, stream: bool
) -> None:
    made_before, before = await made(real_server), await counted(real_server)
    body = {"prompt": "a", "max_tokens": 40, "ignore_eos": True, "n": 2, "stream": stream}

    assert (await real_server.client.post("/v1/completions", json=body)).status_code == 200

    after = await counted(real_server)
    assert await made(real_server) - made_before == 80
    assert after["completion_tokens"] - before["completion_tokens"] == 80
    assert after["aborted_requests"] == before["aborted_requests"]


async def test_what_is_on_its_way_when_the_client_leaves_is_counted(
    real_server: LiveServer,
) -> None:
    """It leaves when the engine is through, wherever the last deltas are at that moment."""
    made_before, before = await made(real_server), await counted(real_server)
    body = {"prompt": "a", "max_tokens": 60, "ignore_eos": True, "stream": True}
    async with real_server.client.stream("POST", "/v1/completions", json=body) as reply:
        lines = reply.aiter_lines()  # kept: without it the connection would be closed
        await read_event(lines)
        async with asyncio.timeout(WAIT_SECONDS):
            while await made(real_server) < made_before + 60:
                await asyncio.sleep(0.01)

    async with asyncio.timeout(WAIT_SECONDS):
        while (await counted(real_server))["completion_tokens"] < before["completion_tokens"] + 60:
            await asyncio.sleep(0.01)
    assert (await counted(real_server))["completion_tokens"] == before["completion_tokens"] + 60
