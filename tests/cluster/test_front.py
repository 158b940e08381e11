"""The front over real sockets, before replicas that run in this process and can be killed."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio

from app.settings import Settings
from tests.cluster.live_front import (
    CHAT,
    STREAM,
    WAIT_SECONDS,
    LiveFront,
    finished,
    pause_all,
    running_front,
    until,
)
from tests.fake_engine import Script
from tests.sse_client import read_event


@pytest_asyncio.fixture
async def front() -> AsyncIterator[LiveFront]:
    async with running_front(Settings(port=0), "one", "two") as live:
        yield live


async def test_a_reply_comes_as_the_replica_gave_it(front: LiveFront) -> None:
    reply = await front.client.post("/chat", json=CHAT, headers={"x-request-id": "abc"})

    assert reply.json()["response"] == "Hello, world!"
    assert reply.headers["x-replica"] in front.fleet.replicas
    assert reply.headers.get_list("x-request-id") == ["abc"]


async def test_an_error_of_a_replica_comes_in_its_own_dialect(front: LiveFront) -> None:
    native = await front.client.post("/chat", json={**CHAT, "temperature": 9})
    openai = await front.client.post("/v1/chat/completions", json={**CHAT, "temperature": 9})

    assert (native.status_code, set(native.json())) == (422, {"detail"})
    assert (openai.status_code, openai.json()["error"]["param"]) == (400, "temperature")


async def test_a_stream_passes_through_piece_by_piece(front: LiveFront) -> None:
    pause = pause_all(front)
    async with front.client.stream("POST", "/chat", json=STREAM) as reply:
        lines = reply.aiter_lines()
        assert await asyncio.wait_for(read_event(lines), WAIT_SECONDS) == {"delta": "Hello"}
        pause.set()
        rest = await finished(lines)

    assert [event.get("delta") for event in rest[:3]] == [", ", "world", "!"]
    assert rest[-1] == "[DONE]"


async def test_a_session_stays_with_its_replica_and_sessions_are_spread(front: LiveFront) -> None:
    seen = Counter()
    for number in range(16):
        headers = {"x-session-id": str(number)}
        replies = [await front.client.post("/chat", json=CHAT, headers=headers) for _ in range(3)]
        replicas = {reply.headers["x-replica"] for reply in replies}
        assert len(replicas) == 1
        seen[replicas.pop()] += 1

    assert set(seen) == {"one", "two"}


async def test_a_conversation_stays_with_its_replica_as_it_grows(front: LiveFront) -> None:
    messages = [{"role": "user", "content": "What is LoRA?"}]
    seen = set()
    for _ in range(5):
        reply = await front.client.post("/chat", json={"messages": messages})
        seen.add(reply.headers["x-replica"])
        messages += [{"role": "assistant", "content": "Well."}, {"role": "user", "content": "And?"}]

    assert len(seen) == 1


async def test_a_replica_that_dies_costs_its_own_streams_one_error_event(front: LiveFront) -> None:
    pause = pause_all(front)

    async def converse(number: int) -> tuple[str, list[Any]]:
        headers = {"x-session-id": str(number)}
        async with front.client.stream("POST", "/chat", json=STREAM, headers=headers) as reply:
            lines = reply.aiter_lines()
            await read_event(lines)
            begun.release()
            return reply.headers["x-replica"], await finished(lines)

    begun = asyncio.Semaphore(0)
    streams = [asyncio.create_task(converse(number)) for number in range(12)]
    for _ in streams:
        await asyncio.wait_for(begun.acquire(), WAIT_SECONDS)
    front.fleet.kill("one")
    pause.set()
    ended = await asyncio.gather(*streams)

    dead = [rest for replica, rest in ended if replica == "one"]
    alive = [rest for replica, rest in ended if replica == "two"]
    assert len(dead) > 0
    assert len(alive) > 0
    assert all(len(rest) == 1 and rest[0]["error"]["code"] == "replica_failed" for rest in dead)
    assert all(rest[-1] == "[DONE]" for rest in alive)


async def test_a_replica_that_dies_before_the_first_byte_is_503_with_retry_after() -> None:
    async with running_front(Settings(port=0), "one", "two") as front:
        holds = [Script(hold=asyncio.Event()) for _ in range(4)]
        for replica in front.fleet.replicas.values():
            replica.engine.enqueue(*holds)
        paths = ["/chat", "/v1/chat/completions"]
        asked = [asyncio.create_task(front.client.post(path, json=STREAM)) for path in paths]
        await until(lambda: sum(r.in_flight for r in front.fleet.replicas.values()) == 2)
        for name in ("one", "two"):
            front.fleet.kill(name)
        native, openai = await asyncio.gather(*asked)

    assert (native.status_code, native.headers["retry-after"]) == (503, "1")
    assert set(native.json()) == {"detail"}
    assert (openai.status_code, openai.json()["error"]["code"]) == (503, "replica_failed")


async def test_a_reply_of_known_length_that_is_not_complete_is_cut() -> None:
    async with running_front(Settings(port=0), "one") as front:

        async def half(scope: Any, receive: Any, send: Any) -> None:
            headers = [(b"content-length", b"9"), (b"content-type", b"application/json")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": b"{", "more_body": True})
            await asyncio.Event().wait()

        replica = front.fleet.replicas["one"]
        replica.app = half  # type: ignore[assignment]
        async with front.client.stream("GET", "/version") as reply:
            front.fleet.kill("one")
            with pytest.raises(httpx.RemoteProtocolError):
                await reply.aread()


async def test_a_client_that_leaves_ends_the_work_in_the_replica(front: LiveFront) -> None:
    pause_all(front)
    async with front.client.stream("POST", "/chat", json=STREAM) as reply:
        await read_event(reply.aiter_lines())
        engine = front.of(reply).engine

    await asyncio.wait_for(engine.asked.closed.wait(), WAIT_SECONDS)


async def test_a_complete_reply_does_not_count_as_a_client_that_left(front: LiveFront) -> None:
    for body in (CHAT, STREAM):
        await front.client.post("/chat", json=body)
    metrics = await front.client.get("/metrics")

    assert 'outcome="answered"' in metrics.text
    assert "disconnected" not in metrics.text
    assert 'slipstream_http_requests_total{method="POST"' in metrics.text
    assert 'status="499"' not in metrics.text
