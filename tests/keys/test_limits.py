"""What a key may use up, through the HTTP door."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from app.durable import replace_file
from app.errors import RateLimited
from app.keys.bucket import Bucket
from app.keys.file import KeyFile
from app.keys.ring import KeyRing
from app.settings import Settings
from tests.fake_engine import FakeEngine, Script
from tests.keys.conftest import Hire, hashed
from tests.live_server import LiveServer, running_server

CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "a"}], "max_tokens": 10}
PROMPT_TOKENS = len("user: a")
REPLY_TOKENS = 4
WAIT_SECONDS = 5


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time of every bucket, which only a test lets pass."""
    now = [0.0]
    init = Bucket.__init__
    monkeypatch.setattr(
        Bucket, "__init__", lambda self, per_minute: init(self, per_minute, lambda: now[0])
    )
    return now


@pytest.fixture
def settings(key_file: KeyFile, tmp_path: Path) -> Settings:
    return Settings(port=0, key_file=str(key_file.path), state_dir=str(tmp_path / "state"))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_SECONDS):
        while not condition():
            await asyncio.sleep(0)


def limits(reply: httpx.Response) -> dict[str, str]:
    start = "x-ratelimit-"
    return {k.removeprefix(start): v for k, v in reply.headers.items() if k.startswith(start)}


async def test_requests_a_minute_are_counted_told_and_refused(
    settings: Settings, hire: Hire, clock: list[float]
) -> None:
    headers = hire("a", requests_per_minute=3)
    async with running_server(settings, FakeEngine()) as live:
        replies = [await live.client.post("/chat", json=CHAT, headers=headers) for _ in range(3)]
        refused = await live.client.post("/v1/completions", json={}, headers=headers)
        native = await live.client.post("/chat", content=b"not read", headers=headers)
        clock[0] += 20
        later = await live.client.get("/v1/models", headers=headers)

    assert [reply.status_code for reply in replies] == [200, 200, 200]
    assert [limits(reply)["remaining-requests"] for reply in replies] == ["2", "1", "0"]
    assert limits(replies[0]) == {
        "limit-requests": "3",
        "remaining-requests": "2",
        "reset-requests": "20s",
    }
    assert limits(refused)["reset-requests"] == "1m0s"
    error = refused.json()["error"]
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "20")
    assert (error["code"], error["type"]) == ("rate_limit_exceeded", "requests")
    assert (native.status_code, set(native.json())) == (429, {"detail"})
    assert later.status_code == 200


async def test_one_keys_limit_is_not_anothers(
    settings: Settings, hire: Hire, clock: list[float]
) -> None:
    one, other = hire("a", requests_per_minute=1), hire("b", requests_per_minute=1)
    async with running_server(settings, FakeEngine()) as live:
        first = [
            (await live.client.get("/v1/models", headers=each)).status_code
            for each in (one, one, other)
        ]

    assert first == [200, 429, 200]


async def test_changing_a_key_does_not_forget_what_it_has_used(
    settings: Settings, hire: Hire, clock: list[float], key_file: KeyFile
) -> None:
    headers = hire("a", requests_per_minute=2)
    async with running_server(settings, FakeEngine()) as live:
        replies = [await live.client.get("/v1/models", headers=headers) for _ in range(2)]
        text = key_file.path.read_text().replace("minute = 2", "minute = 3")
        replace_file(key_file.path, text.encode())
        async with asyncio.timeout(10):
            while limits(replies[-1]).get("limit-requests") != "3":
                replies.append(await live.client.get("/v1/models", headers=headers))
                await asyncio.sleep(0.01)
        replies += [await live.client.get("/v1/models", headers=headers) for _ in range(2)]

    assert {reply.status_code for reply in replies} == {200, 429}
    assert sum(reply.status_code == 200 for reply in replies) == 3


async def test_a_key_that_comes_back_has_not_got_new_limits(
    settings: Settings, hire: Hire, clock: list[float], key_file: KeyFile
) -> None:
    hire("a", requests_per_minute=1)
    ring, text = KeyRing(settings), key_file.path.read_text()
    with ring.caller("a").admitted():
        pass
    for each in ('[b]\nhash = "' + hashed("b") + '"', text):
        key_file.path.write_text(each)
        await ring.reload()

    with pytest.raises(RateLimited), ring.caller("a").admitted():
        pass


async def test_requests_at_once_are_limited_and_given_back_however_they_end(
    settings: Settings, hire: Hire
) -> None:
    headers = hire("a", concurrent_requests=2)
    engine, hold = FakeEngine(), asyncio.Event()
    engine.enqueue(*(Script(hold=hold) for _ in range(2)))
    async with running_server(settings, engine) as live:
        running = [
            asyncio.create_task(live.client.post("/chat", json=CHAT, headers=headers))
            for _ in range(2)
        ]
        await until(lambda: len(engine.submissions) == 2)

        refused = await live.client.post("/v1/chat/completions", json=CHAT, headers=headers)
        running[0].cancel()
        await asyncio.wait_for(engine.submissions[0].closed.wait(), WAIT_SECONDS)
        await until_free(live, headers)
        hold.set()

        assert (await running[1]).status_code == 200
    assert (refused.status_code, refused.json()["error"]["type"]) == (429, "requests")
    assert int(refused.headers["retry-after"]) > 0


async def until_free(live: LiveServer, headers: dict[str, str]) -> None:
    async with asyncio.timeout(WAIT_SECONDS):
        while (await live.client.get("/v1/models", headers=headers)).status_code != 200:
            await asyncio.sleep(0.01)


async def test_unused_tokens_are_given_back(
    settings: Settings, hire: Hire, clock: list[float]
) -> None:
    headers = hire("a", tokens_per_minute=100)
    async with running_server(settings, FakeEngine()) as live:
        ask = live.client.post
        first = await ask("/chat", json=CHAT, headers=headers)
        second = await ask("/chat", json={**CHAT, "stream": True}, headers=headers)
        third = await live.client.get("/v1/models", headers=headers)

    used = PROMPT_TOKENS + REPLY_TOKENS
    assert first.json()["usage"]["total_tokens"] == used
    assert limits(first)["remaining-tokens"] == str(100 - PROMPT_TOKENS - 10)
    assert limits(second)["remaining-tokens"] == str(100 - used - PROMPT_TOKENS - 10)
    assert limits(third) == {
        "limit-tokens": "100",
        "remaining-tokens": str(100 - 2 * used),
        "reset-tokens": "14s",
    }


async def test_a_burst_does_not_overrun_the_tokens(
    settings: Settings, hire: Hire, clock: list[float]
) -> None:
    headers = hire("a", tokens_per_minute=100)
    engine, hold = FakeEngine(), asyncio.Event()
    engine.enqueue(*(Script(hold=hold) for _ in range(50)))
    async with running_server(settings, engine) as live:
        body = {**CHAT, "max_tokens": 25 - PROMPT_TOKENS}
        ask = partial(live.client.post, "/v1/chat/completions", json=body, headers=headers)
        asked = [asyncio.create_task(ask()) for _ in range(20)]
        await until(lambda: sum(each.done() for each in asked) == 16)
        hold.set()
        replies = await asyncio.gather(*asked)

    refused = [reply for reply in replies if reply.status_code == 429]
    assert (len(refused), len(engine.submissions)) == (16, 4)
    assert {reply.json()["error"]["type"] for reply in refused} == {"tokens"}
    assert {reply.headers["retry-after"] for reply in refused} == {"15"}


async def test_choices_and_prompts_count_together(
    settings: Settings, hire: Hire, clock: list[float]
) -> None:
    headers = hire("a", tokens_per_minute=1000)
    async with running_server(settings, FakeEngine()) as live:
        ask = live.client.post
        choices = await ask("/v1/chat/completions", json={**CHAT, "n": 3}, headers=headers)
        batch = await ask("/batch", json={"prompts": ["a"] * 5, "max_tokens": 10}, headers=headers)

    assert limits(choices)["remaining-tokens"] == str(1000 - PROMPT_TOKENS - 30)
    used = PROMPT_TOKENS + 3 * REPLY_TOKENS
    assert limits(batch)["remaining-tokens"] == str(1000 - used - 5 * (PROMPT_TOKENS + 10))


async def test_a_request_that_is_larger_than_the_limit_goes_alone_and_is_paid_for_afterwards(
    settings: Settings, hire: Hire, clock: list[float]
) -> None:
    headers = hire("a", tokens_per_minute=10)
    async with running_server(settings, FakeEngine()) as live:
        ask = live.client.post
        alone = await ask("/chat", json=CHAT, headers=headers)
        behind = await ask("/chat", json=CHAT, headers=headers)
        clock[0] += 60
        too_early = await ask("/chat", json=CHAT, headers=headers)
        clock[0] += 60
        paid = await ask("/chat", json=CHAT, headers=headers)

    codes = [reply.status_code for reply in (alone, behind, too_early, paid)]
    assert codes == [200, 429, 429, 200]


async def test_what_a_reply_is_refused_or_aborted_before_it_is_made_costs_nothing(
    settings: Settings, hire: Hire, clock: list[float]
) -> None:
    headers = hire("a", tokens_per_minute=1000)
    engine = FakeEngine()
    engine.enqueue(Script(refusal=ZeroDivisionError()))
    async with running_server(settings, engine) as live:
        failed = await live.client.post("/chat", json=CHAT, headers=headers)
        wrong = await live.client.post("/chat", json={**CHAT, "max_tokens": 0}, headers=headers)
        after = await live.client.get("/v1/models", headers=headers)

    assert (failed.status_code, wrong.status_code) == (500, 422)
    assert limits(after)["remaining-tokens"] == "1000"


async def test_openais_client_waits_and_tries_again(
    settings: Settings, hire: Hire, clock: list[float]
) -> None:
    headers = hire("a", requests_per_minute=60)
    waits: list[float] = []

    async def wait(seconds: float) -> None:
        waits.append(seconds)
        clock[0] += seconds

    async with running_server(settings, FakeEngine()) as live:
        client = openai.AsyncOpenAI(base_url=f"{live.url}/v1", api_key="a", max_retries=2)
        sleeping: Callable[[float], Awaitable[None]] = wait
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("openai._base_client.anyio.sleep", sleeping)
            for _ in range(61):
                await client.models.list()
        await client.close()

    assert waits == [1]
    assert headers


async def test_without_limits_there_are_no_headers(client: httpx.AsyncClient) -> None:
    assert limits(await client.post("/chat", json=CHAT)) == {}
