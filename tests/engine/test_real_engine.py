"""What only a real engine shows: batching, determinism, aborts, and the demo model's answers."""

import asyncio
import json
import time
from typing import Any

import httpx
import pytest

from app.demo.corpus import read_corpus
from app.engine.base import Constraint, Match, RenderedPrompt, Sampling
from app.replies.native import text_of
from tests.live_server import LiveServer
from tests.sse_client import events

pytestmark = pytest.mark.engine

CHAT = "/v1/chat/completions"


@pytest.fixture
def client(real_server: LiveServer) -> httpx.AsyncClient:
    return real_server.client


def unfinished(live: LiveServer) -> int:
    """Requests that the engine's client still holds."""
    engine: Any = live.server.app.engine
    count: int = engine._llm.get_num_unfinished_requests()
    return count


async def until_idle(live: LiveServer, seconds: float) -> None:
    async with asyncio.timeout(seconds):
        while unfinished(live):
            await asyncio.sleep(0.01)


def message(question: str, **fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}], "temperature": 0, **fields}


async def answer(client: httpx.AsyncClient, question: str) -> str:
    reply = await client.post(CHAT, json=message(question))
    text: str = reply.json()["choices"][0]["message"]["content"]
    return text


async def test_corpus_comes_back_as_written(client: httpx.AsyncClient) -> None:
    openings = [o for c in read_corpus().conversations for o in c.openings() if not o.tools]
    assert len(openings) >= 200

    async def ask(turns: list[dict[str, Any]]) -> str:
        reply = await client.post(CHAT, json={"messages": turns, "temperature": 0})
        text: str = reply.json()["choices"][0]["message"]["content"]
        return text

    answers = await asyncio.gather(*(ask(o.messages[:-1]) for o in openings))

    right = sum(o.answer["content"] == a for o, a in zip(openings, answers, strict=True))
    assert right / len(openings) >= 0.95


async def test_greedy_text_is_the_same_alone_and_in_a_crowd(client: httpx.AsyncClient) -> None:
    conversations = read_corpus().conversations
    others = [c.question for c in conversations if c.is_single][:63]
    alone = await answer(client, "What is LoRA?")

    texts = await asyncio.gather(*(answer(client, q) for q in ["What is LoRA?", *others]))

    assert texts[0] == alone


async def test_many_streams_complete_with_their_own_text(client: httpx.AsyncClient) -> None:
    questions = [c.question for c in read_corpus().conversations if c.is_single][:64]
    expected = await asyncio.gather(*(answer(client, q) for q in questions))

    async def streamed(question: str) -> str:
        reply = await client.post(CHAT, json=message(question, stream=True))
        chunks = events(reply.text)
        assert chunks.pop() == "[DONE]"
        return "".join(chunk["choices"][0]["delta"]["content"] for chunk in chunks)

    assert await asyncio.gather(*map(streamed, questions)) == expected


async def test_seeded_requests_whose_prefill_is_split_leave_the_engine_alive(
    client: httpx.AsyncClient, real_server: LiveServer
) -> None:
    """Together they exceed the engine's budget of tokens a step, so prefills are cut in two."""
    tokens = real_server.server.app.engine.tokenizer.encode("word " * 700, add_special_tokens=False)

    async def sample(length: int) -> str:
        body = {"prompt": tokens[:length], "seed": 7, "temperature": 1, "max_tokens": 8}
        reply = await client.post("/v1/completions", json=body)
        assert reply.status_code == 200
        text: str = reply.json()["choices"][0]["text"]
        return text

    lengths = [600 - i for i in range(48)]
    crowded = await asyncio.gather(*map(sample, lengths))

    assert crowded[::12] == [await sample(length) for length in lengths[::12]]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", ["/generate", "/batch"])
async def test_client_that_leaves_aborts_its_request(
    real_server: LiveServer, path: str, stream: bool
) -> None:
    await until_idle(real_server, 10)
    body: dict[str, Any] = {"prompt": "a"} if path == "/generate" else {"prompts": ["a", "b"]}
    body |= {"max_tokens": 4000, "ignore_eos": True, "stream": stream}
    request = asyncio.create_task(real_server.client.post(path, json=body))
    async with asyncio.timeout(10):
        while not unfinished(real_server):
            await asyncio.sleep(0.01)

    request.cancel()

    await until_idle(real_server, 1)


async def test_first_event_comes_well_before_the_last(client: httpx.AsyncClient) -> None:
    body = {"prompt": "Hello", "max_tokens": 200, "ignore_eos": True, "stream": True}
    started = time.perf_counter()

    async with client.stream("POST", "/generate", json=body) as reply:
        times = [time.perf_counter() - started async for line in reply.aiter_lines() if line]

    assert len(times) > 100
    assert times[0] < times[-1] / 4


async def test_function_call_follows_the_seed(client: httpx.AsyncClient) -> None:
    tasks = {
        "type": "array",
        "items": {
            "type": "object",
            "properties": {"task": {"type": "string"}, "description": {"type": "string"}},
            "required": ["task", "description"],
        },
    }
    schema = {"type": "object", "properties": {"tasks": tasks}, "required": ["tasks"]}
    body = {
        "messages": [
            {"role": "system", "content": "接收一個任務，將其分解成多個步驟。"},
            {"role": "user", "content": "將書本放在側桌上。"},
        ],
        "tools": [{"name": "decompose_task", "description": "", "parameters": schema}],
        "max_new_tokens": 256,
        "temperature": 0,
    }

    reply = (await client.post("/generate_with_function", json=body)).json()

    assert reply["tool_calls"][0]["function"]["name"] == "decompose_task"
    assert all(
        set(task) == {"task", "description"} for task in json.loads(reply["content"])["tasks"]
    )


async def test_vllm_metrics_stand_beside_ours(client: httpx.AsyncClient) -> None:
    await answer(client, "Hello")

    text = (await client.get("/metrics")).text

    for name in ("vllm:generation_tokens_total", "vllm:kv_cache_usage_perc", "slipstream_http"):
        assert name in text


async def test_constraint_binds_the_whole_reply(real_server: LiveServer) -> None:
    engine = real_server.server.app.engine
    prompt = RenderedPrompt(engine.tokenizer.encode("a", add_special_tokens=False))
    constraint = Constraint((Match(pattern="(yes|no){2}", param="structured_outputs"),))
    sampling = Sampling({"max_tokens": 20, "temperature": 1.0}, False, constraint)

    generation = await engine.submit(prompt, sampling, None)
    output = await anext(generation)
    await generation.aclose()

    assert text_of(output) in {"yesyes", "yesno", "noyes", "nono"}
