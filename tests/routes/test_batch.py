import asyncio

import httpx

from app.errors import GenerationFailed
from app.settings import Settings
from tests.fake_engine import FakeEngine, Script
from tests.live_server import running_server
from tests.sse_client import events, read_event


async def test_results_keep_their_order_and_usage_is_summed(
    client: httpx.AsyncClient, engine: FakeEngine
) -> None:
    engine.enqueue(*(Script(pieces=[name, "!"]) for name in "abc"))

    reply = await client.post("/batch", json={"prompts": ["1", "22", "333"]})

    assert reply.json() == {
        "results": ["a!", "b!", "c!"],
        "usage": {"prompt_tokens": 24, "completion_tokens": 6, "total_tokens": 30},
        "model": "model",
    }


async def test_all_prompts_run_at_once(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    hold = asyncio.Event()
    engine.enqueue(*(Script(hold=hold) for _ in range(3)))
    batch = asyncio.create_task(client.post("/batch", json={"prompts": ["a", "b", "c"]}))

    async with asyncio.timeout(5):
        while len(engine.submissions) < 3:
            await asyncio.sleep(0)
    hold.set()

    assert (await batch).status_code == 200


async def test_stream_sends_each_result_as_it_ends(
    client: httpx.AsyncClient, engine: FakeEngine
) -> None:
    hold = asyncio.Event()
    engine.enqueue(Script(pieces=["slow"], hold=hold), Script(pieces=["fast"]))
    body = {"prompts": ["a", "b"], "stream": True}

    async with client.stream("POST", "/batch", json=body) as reply:
        lines = reply.aiter_lines()
        assert await read_event(lines) == {"index": 1, "result": "fast"}
        hold.set()
        assert await read_event(lines) == {"index": 0, "result": "slow"}
        end = await read_event(lines)
        assert end["usage"] == {"prompt_tokens": 14, "completion_tokens": 2, "total_tokens": 16}
        assert await read_event(lines) == "[DONE]"


async def test_one_failure_ends_the_others(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    engine.enqueue(Script(hold=asyncio.Event()), Script(refusal=GenerationFailed("It broke.")))

    reply = await client.post("/batch", json={"prompts": ["a", "b"]})

    assert (reply.status_code, reply.json()) == (500, {"detail": "It broke."})
    assert all(submission.closed.is_set() for submission in engine.submissions)


async def test_failure_in_a_streamed_batch_is_an_error_event(
    client: httpx.AsyncClient, engine: FakeEngine
) -> None:
    broken = asyncio.Event()
    refusal = Script(refusal=GenerationFailed("It broke."), hold=broken)
    engine.enqueue(Script(pieces=["fine"]), refusal)
    body = {"prompts": ["a", "b"], "stream": True}

    async with client.stream("POST", "/batch", json=body) as reply:
        lines = reply.aiter_lines()
        assert await read_event(lines) == {"index": 0, "result": "fine"}
        broken.set()
        rest = [line async for line in lines if line]

    assert len(rest) == 1
    assert events(rest[0])[0]["error"]["code"] == "generation_failed"


async def test_too_many_prompts_are_refused_before_the_engine() -> None:
    engine = FakeEngine()
    async with running_server(Settings(port=0, max_batch_prompts=2), engine) as live:
        reply = await live.client.post("/batch", json={"prompts": ["a"] * 3})

    assert reply.status_code == 422
    assert reply.json() == {"detail": "prompts: expected at most 2, got 3."}
    assert not engine.submissions
