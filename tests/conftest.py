"""One server on the fake engine for the whole run, one on the real engine where it is wanted."""

from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio

from app.settings import Settings
from tests.fake_engine import FakeEngine
from tests.live_server import LiveServer, running_server

FAKE_SETTINGS = Settings(port=0, model="fake/model", adapters={"pirate": "/adapters/pirate"})


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def fake_server() -> AsyncIterator[tuple[LiveServer, FakeEngine]]:
    engine = FakeEngine()
    async with running_server(FAKE_SETTINGS, engine) as live:
        yield live, engine


@pytest.fixture
def live(fake_server: tuple[LiveServer, FakeEngine], engine: FakeEngine) -> LiveServer:
    return fake_server[0]


@pytest.fixture
def engine(fake_server: tuple[LiveServer, FakeEngine]) -> FakeEngine:
    """The fake behind `client`, fresh for each test."""
    fake_server[1].reset()
    return fake_server[1]


@pytest.fixture
def client(live: LiveServer) -> httpx.AsyncClient:
    return live.client
