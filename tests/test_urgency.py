"""Priorities and deadlines, through the HTTP door."""

import asyncio
import math
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio

from app.engine.base import HIGH, LOW, NORMAL, Limits
from app.errors import DeadlineExceeded, InvalidRequest
from app.queueing.queue import TIER_LEAD_SECONDS
from app.settings import Settings
from app.urgency import deadline_of, priority_of, until
from tests.fake_engine import FakeEngine, Script
from tests.live_server import LiveServer, running_server
from tests.sse_client import events

MESSAGES = [{"role": "user", "content": "a"}]
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
ROUTES = [
    ("/chat", {"messages": MESSAGES}),
    ("/", {"prompt": "a"}),
    ("/generate", {"prompt": "a"}),
    ("/generate_with_function", {"messages": MESSAGES, "tools": [TOOL["function"]]}),
    ("/batch", {"prompts": ["a", "b"]}),
    ("/v1/chat/completions", {"model": "model", "messages": MESSAGES}),
    ("/v1/chat/completions", {"model": "model", "messages": MESSAGES, "tools": [TOOL]}),
    ("/v1/completions", {"model": "model", "prompt": "a"}),
]
STREAMS = [(path, body) for path, body in ROUTES if path not in {"/", "/generate_with_function"}]


def error_of(reply: httpx.Response) -> str:
    return str(reply.json()["error"]["message"] if "error" in reply.json() else reply.text)


@pytest.mark.parametrize(("path", "body"), ROUTES)
async def test_deadline_before_the_first_byte_is_504(
    client: httpx.AsyncClient, engine: FakeEngine, path: str, body: dict[str, Any]
) -> None:
    engine.enqueue(*(Script(hold=asyncio.Event()) for _ in range(2)))

    reply = await client.post(path, json={**body, "timeout": 0.05})

    assert reply.status_code == 504
    assert reply.headers["x-should-retry"] == "false"
    if path.startswith("/v1"):
        assert reply.json()["error"]["code"] == "deadline_exceeded"
        assert reply.json()["error"]["type"] == "timeout_error"
    assert engine.submissions
    assert all(each.closed.is_set() for each in engine.submissions)


@pytest.mark.parametrize(("path", "body"), STREAMS)
async def test_deadline_after_the_first_byte_is_one_error_event(
    client: httpx.AsyncClient, engine: FakeEngine, path: str, body: dict[str, Any]
) -> None:
    never = asyncio.Event()
    engine.enqueue(Script(pause=never), Script(hold=never))

    reply = await client.post(path, json={**body, "stream": True, "timeout": 1})

    assert reply.status_code == 200
    *_, last = events(reply.text)
    assert last["error"]["code"] == "deadline_exceeded"
    assert "[DONE]" not in reply.text
    assert reply.text.count('"error"') == 1
    assert all(each.closed.is_set() for each in engine.submissions)


async def test_deadline_covers_the_waiting_for_a_place() -> None:
    engine = FakeEngine(Limits(2048, 256, 1, max_num_seqs=1))
    engine.enqueue(*(Script(hold=asyncio.Event()) for _ in range(2)))
    async with running_server(Settings(port=0), engine) as live:
        holders = [
            asyncio.create_task(live.client.post("/chat", json={"messages": MESSAGES}))
            for _ in range(2)
        ]
        await until_submitted(engine, 2)

        reply = await live.client.post("/chat", json={"messages": MESSAGES, "timeout": 0.05})

        assert (reply.status_code, len(engine.submissions)) == (504, 2)
        for holder in holders:
            holder.cancel()


async def test_setting_limits_every_request() -> None:
    engine = FakeEngine()
    engine.enqueue(Script(hold=asyncio.Event()))
    async with running_server(Settings(port=0, max_request_seconds=0.05), engine) as live:
        reply = await live.client.post("/chat", json={"messages": MESSAGES, "timeout": 600})

        assert reply.status_code == 504


async def test_header_is_a_deadline_too(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    engine.enqueue(Script(hold=asyncio.Event()))
    headers = {"X-Request-Deadline": f"{time.time() + 0.1:.3f}"}
    body = {"messages": MESSAGES, "timeout": 600}

    late = await client.post("/chat", json=body, headers=headers)
    past = await client.post("/chat", json=body, headers={"X-Request-Deadline": "1000000000"})
    early = await client.post("/chat", json=body, headers={"X-Request-Deadline": "99999999999.5"})

    assert (late.status_code, past.status_code, early.status_code) == (504, 504, 200)
    assert len(engine.submissions) == 2, "nothing is begun for one that has passed"


@pytest.mark.parametrize("sent", ["", "soon", "-1", "1e9", "nan", "inf", "1" * 13, "１０"])
async def test_unreadable_deadline_is_refused(
    client: httpx.AsyncClient, engine: FakeEngine, sent: str
) -> None:
    headers = {b"x-request-deadline": sent.encode()}

    reply = await client.post(
        "/v1/chat/completions", json={"model": "model", "messages": MESSAGES}, headers=headers
    )

    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == "X-Request-Deadline"
    assert not engine.submissions


@pytest.mark.parametrize("seconds", [0, -1, 86401, "1", True])
async def test_timeout_out_of_range_is_refused(
    client: httpx.AsyncClient, engine: FakeEngine, seconds: object
) -> None:
    for path, body in ROUTES:
        reply = await client.post(path, json={**body, "timeout": seconds})

        assert reply.status_code == (400 if path.startswith("/v1") else 422)
        assert "timeout" in error_of(reply)
    assert not engine.submissions


async def test_timeout_is_no_sampling_parameter(
    client: httpx.AsyncClient, engine: FakeEngine
) -> None:
    await client.post("/chat", json={"messages": MESSAGES, "timeout": 5})

    assert "timeout" not in engine.asked.sampling.arguments
    assert 0 < engine.asked.origin.deadline - time.monotonic() <= 5


@pytest.mark.parametrize(
    ("path", "asked", "tier"),
    [
        ("/chat", None, 1),
        ("/chat", "high", 0),
        ("/chat", "LOW", 2),
        ("/batch", None, 2),
        ("/batch", "normal", 1),
        ("/v1/completions", "normal", 1),
    ],
)
async def test_priority_is_the_route_s_or_what_the_header_asks(
    client: httpx.AsyncClient, engine: FakeEngine, path: str, asked: str | None, tier: int
) -> None:
    headers = {} if asked is None else {"X-Request-Priority": asked}

    reply = await client.post(path, json=dict(ROUTES)[path], headers=headers)

    assert reply.status_code == 200
    seconds = engine.asked.origin.priority - tier * TIER_LEAD_SECONDS
    assert 0 <= time.monotonic() - seconds < 30


async def test_unknown_priority_is_refused(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    headers = {"X-Request-Priority": "urgent"}

    reply = await client.post("/chat", json={"messages": MESSAGES}, headers=headers)

    assert reply.status_code == 422
    assert "high, normal, low" in reply.text
    assert not engine.submissions


async def test_priority_is_no_field(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    for path, body in ROUTES:
        reply = await client.post(path, json={**body, "priority": -1})

        assert reply.status_code in {400, 422}
        assert "priority" in error_of(reply)
    assert not engine.submissions


@pytest.mark.parametrize(
    ("asked", "default", "highest", "given"),
    [
        (None, NORMAL, HIGH, NORMAL),
        (None, NORMAL, LOW, LOW),
        ("high", LOW, NORMAL, NORMAL),
        ("high", LOW, HIGH, HIGH),
        ("low", NORMAL, HIGH, LOW),
    ],
)
def test_nobody_gets_more_than_the_key_allows(
    asked: str | None, default: int, highest: int, given: int
) -> None:
    headers = {} if asked is None else {"x-request-priority": asked}

    assert priority_of(headers, default, highest) == given


def test_earliest_deadline_counts_from_the_beginning_of_the_request() -> None:
    now = time.monotonic()

    assert deadline_of({}, (None, 0.0), 100.0) == math.inf
    assert deadline_of({}, (30.0, 0.0), 10.0) - now == pytest.approx(20, abs=1)
    assert deadline_of({}, (30.0, 15.0), 10.0) - now == pytest.approx(5, abs=1)
    headers = {"x-request-deadline": str(time.time() + 2)[:16]}
    assert deadline_of(headers, (30.0, 15.0), 10.0) - now == pytest.approx(2, abs=1)
    with pytest.raises(DeadlineExceeded):
        deadline_of({}, (30.0, 0.0), 30.0)
    with pytest.raises(InvalidRequest):
        deadline_of({"x-request-deadline": "1.2.3"}, (), 0.0)


async def test_timeout_of_something_else_is_not_taken_for_the_deadline() -> None:
    with pytest.raises(TimeoutError):
        async with until(time.monotonic() + 60):
            raise TimeoutError


async def test_cancellation_from_outside_stays_one() -> None:
    began = asyncio.Event()

    async def work() -> None:
        async with until(time.monotonic() + 60):
            began.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def until_submitted(engine: FakeEngine, count: int) -> None:
    async with asyncio.timeout(5):
        while len(engine.submissions) < count:
            await asyncio.sleep(0.005)


@pytest_asyncio.fixture
async def small() -> AsyncIterator[tuple[LiveServer, FakeEngine]]:
    """A server whose engine runs one request at a time, and is given two."""
    engine = FakeEngine(Limits(2048, 256, 1, max_num_seqs=1))
    async with running_server(Settings(port=0), engine) as live:
        yield live, engine


async def test_log_and_metrics_tell_how_long_requests_waited(
    small: tuple[LiveServer, FakeEngine],
) -> None:
    live, engine = small
    hold = asyncio.Event()
    engine.enqueue(*(Script(hold=hold) for _ in range(2)))
    body = {"messages": MESSAGES}
    tasks = [asyncio.create_task(live.client.post("/chat", json=body)) for _ in range(2)]
    await until_submitted(engine, 2)
    tasks.append(asyncio.create_task(live.client.post("/chat", json=body)))
    async with asyncio.timeout(5):
        while 'queue_generations{priority="normal"} 1.0' not in (
            text := (await live.client.get("/metrics")).text
        ):
            await asyncio.sleep(0.005)
    assert "slipstream_engine_places_taken 2.0" in text
    hold.set()
    assert {reply.status_code for reply in await asyncio.gather(*tasks)} == {200}

    text = (await live.client.get("/metrics")).text
    assert 'slipstream_queue_seconds_count{priority="normal"} 3.0' in text
    assert 'slipstream_queue_generations{priority="normal"} 0.0' in text
    assert "slipstream_engine_places_taken 0.0" in text
