"""What `GET /v1/usage` says after requests, and what happens to the database meanwhile."""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from sqlite3 import connect
from typing import Any

import httpx
import msgspec
import pytest
import pytest_asyncio

from app.replies.usage import TokenCount
from app.settings import Settings
from app.usage import ledger
from app.usage.counts import Counts, Line, hour_now
from app.usage.database import UsageDatabase
from app.usage.ledger import Ledger
from tests.engine.adapter import make_adapter
from tests.fake_engine import FakeEngine, Script
from tests.live_server import LiveServer, running_server
from tests.sse_client import read_event

CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "a"}], "max_tokens": 10}
PROMPT_TOKENS = len("user: a")
REPLY_TOKENS = 4
WAIT_SECONDS = 5
BOSS = {"authorization": "Bearer boss"}
ONE = {"authorization": "Bearer one"}
TWO = {"authorization": "Bearer two"}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    adapter = make_adapter(tmp_path / "pirate")
    return Settings(
        port=0,
        model="fake/model",
        adapters={"pirate": str(adapter)},
        api_keys=("one", "two"),
        admin_keys=("boss",),
        state_dir=str(tmp_path / "state"),
    )


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest_asyncio.fixture(loop_scope="session")
async def live(settings: Settings, engine: FakeEngine) -> AsyncIterator[LiveServer]:
    async with running_server(settings, engine) as live:
        yield live


async def usage(
    live: LiveServer, headers: dict[str, str], group_by: str = "key,model", **query: Any
) -> list[dict[str, Any]]:
    params = {"group_by": group_by, **query}
    reply = await live.client.get("/v1/usage", params=params, headers=headers)
    assert reply.status_code == 200, reply.text
    data: list[dict[str, Any]] = reply.json()["data"]
    return data


def counted(requests: int, completion: int, **more: Any) -> dict[str, Any]:
    prompt = requests * PROMPT_TOKENS
    return {
        "requests": requests,
        "aborted_requests": 0,
        "prompt_tokens": prompt,
        "cached_tokens": 0,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        **more,
    }


async def test_every_kind_of_reply_adds_what_its_usage_says(
    live: LiveServer, engine: FakeEngine
) -> None:
    ask = live.client.post
    bodies: list[tuple[str, dict[str, Any]]] = [
        ("/chat", CHAT),
        ("/v1/chat/completions", CHAT),
        ("/v1/chat/completions", {**CHAT, "n": 3}),
        ("/v1/completions", {"prompt": ["a", "bc"]}),
        ("/batch", {"prompts": ["a", "b", "c"]}),
        ("/generate", {"prompt": "a"}),
    ]
    replies = [await ask(path, json=body, headers=ONE) for path, body in bodies]
    streamed = await ask("/chat", json={**CHAT, "stream": True}, headers=ONE)

    told = [reply.json()["usage"] for reply in replies]
    told.append(msgspec.json.decode(streamed.text.split("data: ")[-2])["usage"])
    [sums] = await usage(live, ONE)
    for name in ("prompt_tokens", "completion_tokens", "total_tokens"):
        assert sums[name] == sum(each[name] for each in told)
    assert (sums["requests"], sums["key"], sums["model"]) == (7, "key-1", "model")


async def test_a_key_reads_its_own_usage_and_an_admin_everybodys(live: LiveServer) -> None:
    await live.client.post("/chat", json=CHAT, headers=ONE)
    await live.client.post("/chat", json={**CHAT, "model": "pirate"}, headers=TWO)
    await live.client.post("/v1/chat/completions", json=CHAT, headers=TWO)

    one = counted(1, REPLY_TOKENS, key="key-1", model="model")
    base = counted(1, REPLY_TOKENS, key="key-2", model="model")
    pirate = counted(1, REPLY_TOKENS, key="key-2", model="pirate")
    assert await usage(live, ONE) == [one]
    assert await usage(live, TWO) == [base, pirate]
    assert await usage(live, BOSS) == [one, base, pirate]
    assert await usage(live, BOSS, "route") == [
        counted(2, 2 * REPLY_TOKENS, route="/chat"),
        counted(1, REPLY_TOKENS, route="/v1/chat/completions"),
    ]
    hour = time.strftime("%Y-%m-%dT%H:00:00Z", time.gmtime(hour_now() * 3600))
    assert await usage(live, ONE, "hour") == [counted(1, REPLY_TOKENS, start=hour)]
    assert await usage(live, ONE, "day") == [
        counted(1, REPLY_TOKENS, start=f"{hour[:11]}00:00:00Z")
    ]


async def test_a_stream_that_is_left_counts_what_was_made(
    live: LiveServer, engine: FakeEngine
) -> None:
    engine.enqueue(Script(pieces=["a"] * 10, pause=asyncio.Event()))
    body = {**CHAT, "stream": True}
    async with live.client.stream("POST", "/chat", json=body, headers=ONE) as reply:
        await read_event(reply.aiter_lines())
    await asyncio.wait_for(engine.asked.closed.wait(), WAIT_SECONDS)

    assert await until_counted(live, 1) == [
        counted(1, 1, aborted_requests=1, key="key-1", model="model")
    ]


async def test_a_whole_reply_that_nobody_waits_for_counts_what_was_made(
    live: LiveServer, engine: FakeEngine
) -> None:
    engine.enqueue(Script(hold=asyncio.Event(), num_unread=123))
    asked = asyncio.create_task(live.client.post("/chat", json=CHAT, headers=ONE))
    await asyncio.wait_for(engine.submitted.wait(), WAIT_SECONDS)
    asked.cancel()
    await asyncio.wait_for(engine.asked.closed.wait(), WAIT_SECONDS)

    assert await until_counted(live, 1) == [
        counted(1, 123, aborted_requests=1, key="key-1", model="model")
    ]


async def until_counted(live: LiveServer, requests: int) -> list[dict[str, Any]]:
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            found = await usage(live, ONE)
            if sum(each["requests"] for each in found) >= requests:
                return found
            await asyncio.sleep(0.01)


async def test_usage_outlives_the_server_and_is_shared_with_others(
    settings: Settings, live: LiveServer
) -> None:
    async with running_server(settings, FakeEngine()) as other:
        await asyncio.gather(
            *(
                each.client.post("/chat", json=CHAT, headers=ONE)
                for each in (live, other)
                for _ in range(10)
            )
        )
    async with running_server(settings, FakeEngine()) as third:
        await live.server.app.litestar.state.ledger.write()
        assert await usage(third, ONE, "key") == [counted(20, 20 * REPLY_TOKENS, key="key-1")]


async def test_what_is_counted_is_written_soon(settings: Settings, live: LiveServer) -> None:
    await live.client.post("/chat", json=CHAT, headers=ONE)

    database = UsageDatabase(Path(settings.state_dir) / "usage.sqlite")
    async with asyncio.timeout(WAIT_SECONDS):
        while not database.sums(["key"], range(2**40), None, 10):
            await asyncio.sleep(0.05)


@pytest.fixture(params=["damaged", "a folder"])
def broken(request: pytest.FixtureRequest, settings: Settings) -> Path:
    path = Path(settings.state_dir) / "usage.sqlite"
    path.parent.mkdir()
    if request.param == "damaged":
        path.write_bytes(b"no database at all" * 100)
    else:
        path.mkdir()
    return path


async def test_without_its_database_everything_but_usage_is_served(
    broken: Path, live: LiveServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    for _ in range(3):
        assert (await live.client.post("/chat", json=CHAT, headers=ONE)).status_code == 200
        await live.server.app.litestar.state.ledger.write()
    refused = await live.client.get("/v1/usage", headers=ONE)

    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "usage_unreadable")
    assert int(refused.headers["retry-after"]) > 0
    assert caplog.text.count("usage is kept in memory") == 1
    await asyncio.to_thread(broken.rename, broken.with_name("aside"))
    await live.server.app.litestar.state.ledger.write()
    assert await usage(live, ONE, "key") == [counted(3, 3 * REPLY_TOKENS, key="key-1")]
    assert "usage is written again" in caplog.text


async def test_a_full_disk_loses_nothing(
    live: LiveServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await live.client.post("/chat", json=CHAT, headers=ONE)
    book: Ledger = live.server.app.litestar.state.ledger
    await book.write()
    with monkeypatch.context() as patch:
        patch.setattr("app.usage.database.sqlite3.connect", full_disk)
        await live.client.post("/chat", json=CHAT, headers=ONE)
        book.count("key-1", LARGE, "/chat", TokenCount(0))
        await book.write()
        assert "database or disk is full" in caplog.text
        assert (await live.client.post("/chat", json=CHAT, headers=ONE)).status_code == 200
        [sums] = await usage(live, ONE, "key")
        assert (sums["requests"], sums["completion_tokens"]) == (4, 3 * REPLY_TOKENS)
    await book.write()

    with closing(connect(book.database.path)) as connection:
        rows = connection.execute("SELECT model, requests FROM usage ORDER BY model").fetchall()
    assert rows == [("model", 3), (LARGE, 1)]


LARGE = "n" * 5000
"""Does not fit into the page that there is."""


def full_disk(path: Path, timeout: float) -> sqlite3.Connection:
    """Of which the file can have no more than it has."""
    connection = connect(path, timeout=timeout)
    connection.execute("PRAGMA max_page_count = 1")
    return connection


async def test_what_cannot_be_written_in_the_end_is_told(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    book = Ledger(settings)
    book.database.path.mkdir(parents=True)
    async with book.written():
        book.count("key-1", "model", "/chat", TokenCount(7))

    assert "1 rows of usage are lost" in caplog.text


def test_rows_that_wait_are_bounded(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "MAX_WAITING", 3)
    book = Ledger(settings)

    for number in range(10):
        book.count(f"key-{number}", "model", "/chat", TokenCount(7))

    assert len(book._waiting) == 4
    assert sum(each.requests for each in book._waiting.values()) == 10
    assert book._waiting[Line(hour_now(), "other", "other", "other")].requests == 7


def test_what_is_too_old_is_forgotten(tmp_path: Path) -> None:
    database = UsageDatabase(tmp_path / "usage.sqlite")
    lines = {Line(hour, "a", "m", "/"): Counts(requests=1) for hour in range(10)}

    database.add(lines, oldest_hour=4)

    assert list(database.sums(["hour"], range(100), None, 100)) == [(n,) for n in range(4, 10)]


async def test_long_answers_come_in_pages(live: LiveServer) -> None:
    database: UsageDatabase = live.server.app.litestar.state.ledger.database
    lines = {Line(hour_now() - n, "a", "m", "/"): Counts(requests=n) for n in range(250)}
    database.add(lines, 0)
    pages = []
    for offset in (0, 100, 200):
        params = {"group_by": "hour", "offset": offset}
        pages.append((await live.client.get("/v1/usage", params=params, headers=BOSS)).json())

    assert [len(page["data"]) for page in pages] == [100, 100, 50]
    assert [page["has_more"] for page in pages] == [True, True, False]
    numbers = [each["requests"] for page in pages for each in page["data"]]
    assert numbers == list(reversed(range(250)))


async def test_since_and_until_are_whole_hours(live: LiveServer) -> None:
    database: UsageDatabase = live.server.app.litestar.state.ledger.database
    first = 1_767_225_600 // 3600  # 2026-01-01T00:00:00Z
    lines = {Line(first + n, "a", "m", "/"): Counts(requests=1) for n in range(72)}
    database.add(lines, 0)

    async def found(**query: str) -> int:
        return sum(each["requests"] for each in await usage(live, BOSS, **query))

    assert await found(since="2026-01-01", until="2026-01-02") == 24
    assert await found(since="2026-01-01T10:59:59Z", until="2026-01-01T11:00:01Z") == 2
    assert await found(since="2026-01-02T00:00:00+01:00", until="2026-02-01") == 49
    assert await found(since="0001-01-01", until="9999-12-31T23:59:59Z") == 72


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ({"since": "yesterday"}, "since"),
        ({"until": "2026-13-01"}, "until"),
        ({"since": "9999-01-01"}, "since"),
        ({"since": "2026-02-01", "until": "2026-01-01"}, "since"),
        ({"group_by": "alias"}, "group_by"),
        ({"group_by": "key,key"}, "group_by"),
        ({"group_by": "hour,day"}, "group_by"),
        ({"group_by": ""}, "group_by"),
        ({"limit": "0"}, "limit"),
        ({"limit": "1001"}, "limit"),
        ({"limit": "many"}, "limit"),
        ({"offset": "-1"}, "offset"),
    ],
)
async def test_a_wrong_query_is_refused_by_name(
    live: LiveServer, query: dict[str, str], param: str
) -> None:
    reply = await live.client.get("/v1/usage", params=query, headers=ONE)

    error = reply.json()["error"]
    assert (reply.status_code, error["param"]) == (400, param)
    assert error["message"].startswith(f"{param}: ")


async def test_more_sums_than_one_answer_may_have_are_refused(
    live: LiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.routes.openai.usage.MAX_GROUPS", 2)
    database: UsageDatabase = live.server.app.litestar.state.ledger.database
    database.add({Line(hour_now() - n, "a", "m", "/"): Counts(requests=1) for n in range(3)}, 0)

    reply = await live.client.get("/v1/usage", params={"group_by": "hour"}, headers=BOSS)

    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "group_by")


async def test_metrics_count_by_key(live: LiveServer) -> None:
    await live.client.post("/chat", json=CHAT, headers=ONE)
    await live.client.post("/chat", json={}, headers=TWO)

    text = (await live.client.get("/metrics", headers=BOSS)).text
    assert 'slipstream_key_requests_total{key="key-1",status="200"} 1.0' in text
    assert 'slipstream_key_requests_total{key="key-2",status="422"} 1.0' in text
    assert f'slipstream_key_tokens_total{{key="key-1",kind="prompt"}} {PROMPT_TOKENS}.0' in text
    assert f'slipstream_key_tokens_total{{key="key-1",kind="completion"}} {REPLY_TOKENS}.0' in text


async def test_metrics_of_too_many_keys_are_put_together(
    live: LiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.metrics.MAX_ALIASES", 1)
    for headers in (ONE, TWO, BOSS, ONE):
        await live.client.post("/chat", json=CHAT, headers=headers)

    text = (await live.client.get("/metrics", headers=ONE)).text
    found = {line for line in text.splitlines() if line.startswith("slipstream_key_requests_total")}
    assert found == {
        'slipstream_key_requests_total{key="key-1",status="200"} 2.0',
        'slipstream_key_requests_total{key="other",status="200"} 2.0',
    }


async def test_without_keys_usage_is_there_for_everybody(tmp_path: Path) -> None:
    state = Settings(port=0, model="fake/model", state_dir=str(tmp_path))
    async with running_server(state, FakeEngine()) as live:
        assert (await live.client.post("/chat", json=CHAT)).status_code == 200
        assert await usage(live, {}) == [counted(1, REPLY_TOKENS, key="anonymous", model="model")]
        text = (await live.client.get("/metrics")).text
    assert "slipstream_key_requests_total{" not in text


async def test_requests_without_a_model_are_not_usage(
    live: LiveServer, client: httpx.AsyncClient
) -> None:
    await live.client.get("/v1/models", headers=ONE)
    await live.client.post("/chat", json={**CHAT, "model": "nobody"}, headers=ONE)

    assert await usage(live, ONE) == []
