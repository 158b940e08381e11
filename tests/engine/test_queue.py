"""The queue before a real engine that runs eight at a time, with too little memory for those."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio
from prometheus_client import REGISTRY

from app.settings import Settings
from tests.conftest import real_engine
from tests.live_server import LiveServer

pytestmark = pytest.mark.engine

RUNNING = 8
PROMPTS = 200
LONG: dict[str, Any] = {"max_tokens": 400, "ignore_eos": True, "temperature": 0}
SHORT = {"max_tokens": 32, "ignore_eos": True, "temperature": 0}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def crowded(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LiveServer]:
    settings = Settings(
        port=0,
        index_cache_dir=str(tmp_path_factory.mktemp("indexes")),
        single_flight=False,
        max_model_len=1024,
        engine_arguments={"max_num_seqs": RUNNING, "num_gpu_blocks_override": 18},
    )
    async with real_engine(settings) as live:
        yield live


def batch_of(count: int) -> dict[str, object]:
    return {"prompts": [f"What is {number}?" for number in range(count)], **SHORT}


async def chat(live: LiveServer, **fields: object) -> httpx.Response:
    body = {"messages": [{"role": "user", "content": "What is LoRA?"}], **fields}
    return await live.client.post("/chat", json=body)


async def test_chats_overtake_a_batch_of_two_hundred(crowded: LiveServer) -> None:
    assert crowded.server.app.engine.limits.max_num_seqs == RUNNING
    batch = asyncio.create_task(crowded.client.post("/batch", json=batch_of(PROMPTS)))
    await until_waiting(crowded)
    for _ in range(10):
        reply = await chat(crowded, **SHORT)
        assert reply.json()["usage"]["completion_tokens"] == SHORT["max_tokens"]
    assert waiting(crowded) > PROMPTS / 4, "the batch was overtaken by all of the chats"

    reply = await batch
    assert reply.json()["usage"]["completion_tokens"] == PROMPTS * 32
    assert crowded.server.app.queue._taken == 0


async def test_chats_keep_their_memory_and_batches_lose_it(crowded: LiveServer) -> None:
    """What is preempted goes on later, and says the same as when it is alone."""
    prompt = {
        "prompt": "What is continuous batching?",
        **LONG,
        "max_tokens": 2 * LONG["max_tokens"],
    }
    alone = await crowded.client.post("/generate", json=prompt)
    before = preemptions()
    batch = [
        asyncio.create_task(
            crowded.client.post("/generate", json=prompt, headers={"x-request-priority": "low"})
        )
        for _ in range(RUNNING)
    ]
    await until_running(crowded, RUNNING)
    chats = [asyncio.create_task(chat(crowded, **LONG)) for _ in range(2)]
    await asyncio.gather(*chats)
    still_running = [task for task in batch if not task.done()]

    assert still_running
    replies = await asyncio.gather(*batch)
    assert preemptions() > before
    assert {reply.json()["generated_text"] for reply in replies} == {alone.json()["generated_text"]}


def waiting(live: LiveServer) -> int:
    return live.server.app.queue._backlog.taken.places


async def until_waiting(live: LiveServer) -> None:
    async with asyncio.timeout(30):
        while not waiting(live):
            await asyncio.sleep(0.001)


async def until_running(live: LiveServer, count: int) -> None:
    async with asyncio.timeout(30):
        while live.server.app.queue._taken < count:
            await asyncio.sleep(0.001)


def preemptions() -> float:
    samples = (sample for metric in REGISTRY.collect() for sample in metric.samples)
    return sum(each.value for each in samples if each.name == "vllm:num_preemptions_total")
