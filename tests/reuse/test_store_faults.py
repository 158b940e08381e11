"""Redis on its worst days: no request fails of it, and none waits long."""

import asyncio
import logging
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from redis import Redis

from app.asgi import create_app
from app.configuration import ConfigurationError
from app.reuse import guard
from app.settings import Settings
from tests.fake_engine import FakeEngine
from tests.live_server import LiveServer, running_server
from tests.ports import free_port
from tests.redis_server import RedisServer, running_redis

LIMIT_SECONDS = 0.2


@asynccontextmanager
async def server_on(url: str, **settings: Any) -> AsyncIterator[LiveServer]:
    chosen = Settings(
        port=0,
        **{"model": "fake/model", "store_seconds": LIMIT_SECONDS, **settings},
        reply_cache=url,
    )
    async with running_server(chosen, FakeEngine()) as live:
        yield live


class Lines(logging.Handler):
    """What is logged, in its words."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """What is logged of the store."""
    handler = Lines()
    guard.logger.addHandler(handler)
    yield handler.messages
    guard.logger.removeHandler(handler)


async def ask(live: LiveServer, words: str, **headers: str) -> httpx.Response:
    body = {"messages": [{"role": "user", "content": words}], "temperature": 0}
    reply = await live.client.post("/chat", json=body, headers=headers)
    await live.server.app.litestar.state.stores.settle()
    assert reply.status_code == 200
    assert reply.json()["response"] == "Hello, world!"
    return reply


async def sources(live: LiveServer, words: str, times: int) -> list[str]:
    return [(await ask(live, words)).headers["x-cache"] for _ in range(times)]


async def errors(live: LiveServer, operation: str) -> float:
    name = f'slipstream_store_errors_total{{operation="{operation}"}} '
    metrics = (await live.client.get("/metrics")).text
    return sum(float(line.removeprefix(name)) for line in metrics.splitlines() if name in line)


async def test_without_a_server_everything_is_computed(words: str, lines: list[str]) -> None:
    async with server_on(f"redis://user:secret@127.0.0.1:{free_port()}") as live:
        assert await sources(live, words, 3) == ["miss"] * 3
        again = await ask(live, words, **{"idempotency-key": words})
        assert "idempotent-replayed" not in again.headers

        assert await errors(live, "get") == 1, "it is left alone for a while"
    (line,) = lines
    assert "get fails" in line
    assert "secret" not in line


async def test_a_server_that_hangs_costs_its_limit_once(
    words: str, lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "REST_SECONDS", 2.0)
    with running_redis() as redis:
        async with server_on(redis.url) as live:
            assert await sources(live, words, 2) == ["miss", "hit"]
            redis.send_signal(signal.SIGSTOP)
            started = time.monotonic()
            assert await sources(live, words, 1) == ["miss"]
            assert time.monotonic() - started >= LIMIT_SECONDS
            assert await sources(live, words, 8) == ["miss"] * 8
            assert await errors(live, "get") == 1, "only one of them has waited for it"

            redis.send_signal(signal.SIGCONT)
            async with asyncio.timeout(10):
                while (await ask(live, words)).headers["x-cache"] != "hit":
                    pass
    assert len(lines) == 2, "one line when it fails, one when it works again"


async def test_a_full_server_still_answers_what_it_has(words: str) -> None:
    with running_redis("--maxmemory-policy", "noeviction") as redis:
        async with server_on(redis.url) as live:
            assert await sources(live, words, 2) == ["miss", "hit"]
            assert redis.command("CONFIG SET maxmemory 1") == "+OK"

            assert await sources(live, words + "!", 2) == ["miss", "miss"]
            assert await sources(live, words, 1) == ["hit"]
            assert await errors(live, "set") == 1


@pytest.mark.parametrize(
    "garbage", [b"", b"\x00", b"\xff" * 100, b"\x93" * 100_000, b"{}", b"\x93\xa0\xc0\x90"]
)
async def test_garbage_is_computed_anew_and_replaced(
    redis: RedisServer, words: str, garbage: bytes
) -> None:
    async with server_on(redis.url) as live:
        with Redis.from_url(redis.url) as direct:
            direct.flushall()
            assert await sources(live, words, 1) == ["miss"]
            (name,) = direct.keys()
            direct.set(name, garbage)

            assert await sources(live, words, 2) == ["miss", "hit"]
        assert await errors(live, "garbage") == 1


async def test_a_value_of_another_type_is_computed_anew(redis: RedisServer, words: str) -> None:
    async with server_on(redis.url) as live:
        with Redis.from_url(redis.url) as direct:
            direct.flushall()
            assert await sources(live, words, 1) == ["miss"]
            (name,) = direct.keys()
            direct.delete(name)
            direct.lpush(name, "a")

            assert await sources(live, words, 1) == ["miss"]


async def test_another_keys_reply_is_not_played(redis: RedisServer, words: str) -> None:
    """What a connection out of step would answer with."""
    async with server_on(redis.url) as live:
        with Redis.from_url(redis.url) as direct:
            direct.flushall()
            await ask(live, words)
            (first,) = direct.keys()
            await ask(live, words + "!")
            (second,) = set(direct.keys()) - {first}
            direct.set(second, direct.get(first))

            assert (await ask(live, words + "!")).headers["x-cache"] == "miss"
        assert await errors(live, "garbage") == 1


async def test_replies_are_kept_for_their_time(redis: RedisServer, words: str) -> None:
    async with server_on(redis.url, reply_cache_seconds=1000) as live:
        with Redis.from_url(redis.url) as direct:
            direct.flushall()
            await ask(live, words)
            (name,) = direct.keys()

            assert 990 <= direct.ttl(name) <= 1000


@pytest.mark.parametrize(
    "changed", [{"model": "other/model"}, {"dtype": "float16"}, {"quantization": "int8"}]
)
async def test_another_model_on_the_same_server_finds_nothing(
    redis: RedisServer, words: str, changed: dict[str, str]
) -> None:
    async with server_on(redis.url) as live, server_on(redis.url, **changed) as other:
        await ask(live, words)

        assert (await ask(other, words)).headers["x-cache"] == "miss"


async def test_replies_outlive_the_server(redis: RedisServer, words: str) -> None:
    async with server_on(redis.url) as live:
        await ask(live, words)
    async with server_on(redis.url.replace("redis:", "valkey:")) as live:
        assert (await ask(live, words)).headers["x-cache"] == "hit"


@pytest.mark.parametrize("place", ["disk", "http://localhost", "redis://", "redis://host:port"])
async def test_what_is_no_place_stops_the_start(place: str) -> None:
    with pytest.raises(ConfigurationError, match="reply_cache"):
        create_app(Settings(reply_cache=place), FakeEngine())
