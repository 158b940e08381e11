"""Servers on the fake engine that keep replies, in memory and in a real Redis."""

from collections.abc import AsyncIterator, Iterator
from uuid import uuid4

import pytest
import pytest_asyncio

from app.settings import Settings
from tests.fake_engine import FakeEngine
from tests.live_server import LiveServer, running_server
from tests.redis_server import NoRedis, RedisServer, running_redis


@pytest.fixture(scope="session")
def redis() -> Iterator[RedisServer]:
    try:
        with running_redis() as server:
            yield server
    except NoRedis as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module", params=["memory", "redis"])
def place(request: pytest.FixtureRequest) -> str:
    """Where replies are kept."""
    if request.param == "memory":
        return "memory"
    server: RedisServer = request.getfixturevalue("redis")
    return server.url


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def keeping_server(place: str) -> AsyncIterator[tuple[LiveServer, FakeEngine]]:
    engine = FakeEngine()
    settings = Settings(port=0, model="fake/model", reply_cache=place, reply_cache_entry_kib=32)
    async with running_server(settings, engine) as live:
        yield live, engine


@pytest.fixture
def keeper(keeping_server: tuple[LiveServer, FakeEngine], engine: FakeEngine) -> LiveServer:
    return keeping_server[0]


@pytest.fixture
def engine(
    request: pytest.FixtureRequest, fake_server: tuple[LiveServer, FakeEngine]
) -> FakeEngine:
    """The fake behind `keeper` where a test has it, else the one behind `client`."""
    keeps = "keeper" in request.fixturenames
    server = request.getfixturevalue("keeping_server") if keeps else fake_server
    server[1].reset()
    return server[1]


@pytest.fixture
def words() -> str:
    """A prompt that nobody has sent before."""
    return uuid4().hex
