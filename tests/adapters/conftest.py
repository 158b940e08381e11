"""A server on the fake engine with a watched folder of adapters and a hub that is not asked."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from app.settings import Settings
from tests.fake_engine import FakeEngine
from tests.live_server import LiveServer, running_server

ADMIN = {"authorization": "Bearer boss"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    folder.mkdir()
    return folder


@pytest.fixture
def settings(root: Path, tmp_path: Path) -> Settings:
    return Settings(
        port=0,
        model="fake/model",
        adapter_dir=str(root),
        state_dir=str(tmp_path / "state"),
        admin_keys=("boss",),
        max_pinned_loras=2,
    )


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest_asyncio.fixture(loop_scope="session")
async def live(settings: Settings, engine: FakeEngine) -> AsyncIterator[LiveServer]:
    async with running_server(settings, engine) as live:
        yield live


@pytest.fixture
def client(live: LiveServer) -> httpx.AsyncClient:
    live.client.headers.update(ADMIN)
    return live.client
