"""Repeatable requests that are the same at the same time, through the HTTP door."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from app.errors import GenerationFailed
from tests.fake_engine import FakeEngine, Script
from tests.live_server import LiveServer
from tests.sse_client import events, read_event

MANY = 64


def chat(words: str, **fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": words}], "temperature": 0, **fields}


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0)


async def until_read_by(live: LiveServer, num_readers: int) -> None:
    """Wait for requests to have joined the only generation that the engine was asked for."""
    app = live.server.app
    flights = app.litestar.state.submitter._flights
    await until(
        lambda: (
            app.engine.submissions
            and sum(each.num_readers for each in flights.values()) == num_readers
        )
    )


def start(work: Awaitable[httpx.Response]) -> asyncio.Task[httpx.Response]:
    return asyncio.ensure_future(work)


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/chat", {}),
        ("/v1/chat/completions", {}),
        ("/v1/chat/completions", {"temperature": 1, "seed": 7}),
        ("/v1/chat/completions", {"n": 2}),
        ("/v1/chat/completions", {"stream": True}),
    ],
)
async def test_the_same_requests_at_the_same_time_are_computed_once(
    client: httpx.AsyncClient,
    live: LiveServer,
    engine: FakeEngine,
    words: str,
    path: str,
    fields: dict[str, Any],
) -> None:
    hold = asyncio.Event()
    engine.enqueue(Script(hold=hold))
    requests = [start(client.post(path, json=chat(words, **fields))) for _ in range(MANY)]
    await until_read_by(live, MANY)

    hold.set()
    replies = await asyncio.gather(*requests)

    assert len(engine.submissions) == 1
    assert {reply.status_code for reply in replies} == {200}
    assert all("world" in reply.text for reply in replies)
    sources = [reply.headers.get("x-cache") for reply in replies]
    assert sorted(map(str, sources)) == ["None"] + ["shared"] * (MANY - 1)
    await asyncio.wait_for(engine.asked.closed.wait(), 5)


@pytest.mark.parametrize(
    "changed",
    [
        {"temperature": None},
        {"temperature": 0.5},
        {"max_tokens": 7},
        {"stop": "x"},
        {"seed": 1},
        {"stream": True},
        {"model": "pirate"},
        {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "a", "schema": {"enum": ["Hello, world!"]}},
            }
        },
    ],
)
async def test_requests_that_differ_are_computed_each(
    client: httpx.AsyncClient,
    live: LiveServer,
    engine: FakeEngine,
    words: str,
    changed: dict[str, Any],
) -> None:
    hold = asyncio.Event()
    script = Script(hold=hold, pieces=['"Hello, world!"'])
    engine.enqueue(script, script)
    bodies = chat(words), chat(words) | changed
    requests = [start(client.post("/v1/chat/completions", json=body)) for body in bodies]

    await until(lambda: len(engine.submissions) == 2)
    hold.set()

    for reply in await asyncio.gather(*requests):
        assert reply.status_code == 200
        assert "x-cache" not in reply.headers


async def test_what_is_sampled_is_never_shared(
    client: httpx.AsyncClient, engine: FakeEngine, words: str
) -> None:
    hold = asyncio.Event()
    engine.enqueue(Script(hold=hold), Script(hold=hold))
    body = {"messages": [{"role": "user", "content": words}]}
    requests = [start(client.post("/chat", json=body)) for _ in range(2)]

    await until(lambda: len(engine.submissions) == 2)
    hold.set()

    assert [reply.status_code for reply in await asyncio.gather(*requests)] == [200, 200]


async def test_equal_prompts_of_a_batch_are_computed_once(
    client: httpx.AsyncClient, live: LiveServer, engine: FakeEngine, words: str
) -> None:
    hold = asyncio.Event()
    engine.enqueue(Script(hold=hold))
    body = {"prompts": [words, words, words], "temperature": 0}
    request = start(client.post("/batch", json=body))
    await until_read_by(live, 3)

    hold.set()
    reply = await request

    assert len(engine.submissions) == 1
    assert reply.json()["results"] == ["Hello, world!"] * 3
    assert reply.json()["usage"]["completion_tokens"] == 12
    assert "x-cache" not in reply.headers, "one of them was computed for this request"


async def test_a_follower_gets_what_has_come_and_then_the_same(
    client: httpx.AsyncClient, live: LiveServer, engine: FakeEngine, words: str
) -> None:
    pause = asyncio.Event()
    engine.enqueue(Script(pieces=["a", "b", "c"], pause=pause))
    body = chat(words, stream=True)
    async with client.stream("POST", "/chat", json=body) as leader:
        led = leader.aiter_lines()
        assert await read_event(led) == {"delta": "a"}
        follower = start(client.post("/chat", json=body))
        await until_read_by(live, 2)
        pause.set()
        rest = [(await read_event(led))["delta"] for _ in range(2)]
    reply = await follower

    assert [each["delta"] for each in events(reply.text)[:3]] == ["a", *rest]
    assert reply.headers["x-cache"] == "shared"
    assert len(engine.submissions) == 1


async def test_a_follower_of_a_stream_whose_reader_is_slow_waits_for_nobody(
    client: httpx.AsyncClient, live: LiveServer, engine: FakeEngine, words: str
) -> None:
    pieces = ["x" * 10_000] * 2_000
    engine.enqueue(Script(pieces=pieces))
    body = chat(words, stream=True)
    async with client.stream("POST", "/chat", json=body) as unread:
        follower = await client.post("/chat", json=body)

        assert sum(len(each.get("delta", "")) for each in events(follower.text)[:-1]) == 20_000_000
        assert len(engine.submissions) == 1
        assert unread.status_code == 200


@pytest.mark.parametrize("stream", [False, True])
async def test_the_first_leaving_before_the_first_token_takes_nothing_away(
    client: httpx.AsyncClient, live: LiveServer, engine: FakeEngine, words: str, stream: bool
) -> None:
    hold = asyncio.Event()
    engine.enqueue(Script(hold=hold))
    leader = start(client.post("/chat", json=chat(words, stream=stream)))
    await until_read_by(live, 1)
    follower = start(client.post("/chat", json=chat(words, stream=stream)))
    await until_read_by(live, 2)

    leader.cancel()
    await until_read_by(live, 1)
    assert not engine.asked.closed.is_set()
    hold.set()

    assert "world" in (await follower).text
    assert len(engine.submissions) == 1


async def test_the_first_leaving_in_the_middle_takes_nothing_away(
    client: httpx.AsyncClient, live: LiveServer, engine: FakeEngine, words: str
) -> None:
    first, second = asyncio.Event(), asyncio.Event()
    pause = StepwisePause(first, second)
    engine.enqueue(Script(pieces=["a", "b", "c"], pause=pause))
    body = chat(words, stream=True)
    async with client.stream("POST", "/chat", json=body) as leader:
        led = leader.aiter_lines()  # held, since its end is the response's
        assert await read_event(led) == {"delta": "a"}
        follower = start(client.post("/chat", json=body))
        await until_read_by(live, 2)
        first.set()  # from here on neither reader pulls by itself
        await until(lambda: not pause.left)
    await until_read_by(live, 1)

    assert not engine.asked.closed.is_set()
    second.set()

    assert [each["delta"] for each in events((await follower).text)[:3]] == ["a", "b", "c"]
    assert len(engine.submissions) == 1


class StepwisePause(asyncio.Event):
    """Awaited before each piece but the first: one event a piece."""

    def __init__(self, *events: asyncio.Event) -> None:
        super().__init__()
        self.left = list(events)

    async def wait(self) -> bool:  # type: ignore[override]
        return await self.left.pop(0).wait()


async def test_who_joins_a_stream_that_its_only_reader_takes_away_begins_anew(
    client: httpx.AsyncClient, live: LiveServer, engine: FakeEngine, words: str
) -> None:
    engine.enqueue(Script(pieces=["a", "b"], pause=asyncio.Event()))
    body = chat(words, stream=True)
    async with client.stream("POST", "/chat", json=body) as leader:
        led = leader.aiter_lines()  # held, since its end is the response's
        assert await read_event(led) == {"delta": "a"}
        follower = start(client.post("/chat", json=body))
        await until_read_by(live, 2)

    reply = await asyncio.wait_for(follower, 5)

    assert "world" in reply.text
    assert "x-cache" not in reply.headers
    assert engine.submissions[0].closed.is_set()
    assert len(engine.submissions) == 2


@pytest.mark.parametrize("stream", [False, True])
async def test_nobody_left_aborts(
    client: httpx.AsyncClient, live: LiveServer, engine: FakeEngine, words: str, stream: bool
) -> None:
    engine.enqueue(Script(hold=asyncio.Event()))
    body = chat(words, stream=stream)
    requests = [start(client.post("/chat", json=body)) for _ in range(3)]
    await until_read_by(live, 3)

    for request in requests:
        request.cancel()

    await asyncio.wait_for(engine.asked.closed.wait(), 5)
    await until_read_by(live, 0)


async def test_a_refusal_goes_to_all_and_is_not_remembered(
    client: httpx.AsyncClient, live: LiveServer, engine: FakeEngine, words: str
) -> None:
    hold = asyncio.Event()
    engine.enqueue(Script(hold=hold, refusal=GenerationFailed("no")))
    requests = [start(client.post("/chat", json=chat(words))) for _ in range(3)]
    await until_read_by(live, 3)

    hold.set()

    assert [reply.status_code for reply in await asyncio.gather(*requests)] == [500] * 3
    assert len(engine.submissions) == 1
    assert (await client.post("/chat", json=chat(words))).status_code == 200


async def test_a_failure_in_the_middle_goes_to_all(
    client: httpx.AsyncClient, live: LiveServer, engine: FakeEngine, words: str
) -> None:
    hold = asyncio.Event()
    engine.enqueue(Script(hold=hold, failure=GenerationFailed("no")))
    body = chat(words, stream=True)
    requests = [start(client.post("/chat", json=body)) for _ in range(3)]
    await until_read_by(live, 3)

    hold.set()

    for reply in await asyncio.gather(*requests):
        *_, last = events(reply.text)
        assert last["error"]["code"] == "generation_failed"
    assert len(engine.submissions) == 1


async def test_a_reply_that_breaks_its_schema_is_not_made_again_of_the_same(
    client: httpx.AsyncClient, live: LiveServer, engine: FakeEngine, words: str
) -> None:
    """Sharing a wrong reply is right; the next attempt is sampled, so each makes its own."""
    hold = asyncio.Event()
    engine.enqueue(Script(pieces=["[1, 1]"], hold=hold), *[Script(pieces=["[1, 2]"])] * 2)
    schema = {"type": "array", "items": {"type": "integer"}, "uniqueItems": True}
    form = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    body = chat(words, response_format=form)
    requests = [start(client.post("/v1/chat/completions", json=body)) for _ in range(2)]
    await until_read_by(live, 2)

    hold.set()

    for reply in await asyncio.gather(*requests):
        assert reply.json()["choices"][0]["message"]["content"] == "[1, 2]"
    assert len(engine.submissions) == 3


async def test_no_store_and_no_cache_share_nothing_of_others(
    client: httpx.AsyncClient, live: LiveServer, engine: FakeEngine, words: str
) -> None:
    hold = asyncio.Event()
    engine.enqueue(*[Script(hold=hold)] * 3)
    requests = [
        start(client.post("/chat", json=chat(words), headers={"cache-control": each}))
        for each in ("max-age=60", "no-cache", "max-age=60, No-Store")
    ]

    await until(lambda: len(engine.submissions) == 3)
    hold.set()

    assert [reply.status_code for reply in await asyncio.gather(*requests)] == [200] * 3
