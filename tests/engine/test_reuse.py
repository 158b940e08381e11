"""What many ask the real engine at once."""

import asyncio

import httpx
import pytest

from tests.live_server import LiveServer

pytestmark = pytest.mark.engine
MANY = 64


async def num_ended(client: httpx.AsyncClient) -> float:
    """Requests that the engine has ended so far, for any reason."""
    lines = (await client.get("/metrics")).text.splitlines()
    return sum(float(each.split()[-1]) for each in lines if "vllm:request_success_total{" in each)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("fields", [{"temperature": 0}, {"temperature": 1, "seed": 5}])
async def test_the_engine_computes_the_same_requests_once(
    real_server: LiveServer, fields: dict[str, float], stream: bool
) -> None:
    client = real_server.client
    message = {"role": "user", "content": f"What is LoRA? {fields} {stream}"}
    length = {"max_tokens": 1000, "ignore_eos": True}  # the last asks while it is under way
    body = {"messages": [message], "stream": stream, **length, **fields}
    before = await num_ended(client)

    replies = await asyncio.gather(*(client.post("/chat", json=body) for _ in range(MANY)))

    assert await num_ended(client) == before + 1
    assert len({reply.text for reply in replies}) == 1
    sources = [reply.headers.get("x-cache") for reply in replies]
    assert sources.count("shared") == MANY - 1
