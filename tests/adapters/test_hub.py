"""Adapters by their hub id, from a hub on this machine."""

from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import huggingface_hub.constants
import pytest
import pytest_asyncio
from huggingface_hub import HfApi
from msgspec.structs import replace

from app.settings import Settings
from tests.engine.adapter import make_adapter
from tests.engine.checkpoints.fake_hub import COMMIT, MODEL, FakeHub, running_hub
from tests.fake_engine import FakeEngine
from tests.live_server import LiveServer, running_server

ROUTE = "/v1/adapters"
ADMIN = {"authorization": "Bearer boss"}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    make_adapter(tmp_path / "offered")
    cache = str(tmp_path / "cache")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", cache)
    with running_hub(tmp_path / "offered") as running:
        monkeypatch.setattr("app.adapters.hub.HfApi", partial(HfApi, endpoint=running.url))
        yield running


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return replace(settings, adapter_hub=True)


@pytest_asyncio.fixture(loop_scope="session")
async def server(settings: Settings, hub: FakeHub) -> AsyncIterator[LiveServer]:
    async with running_server(settings, FakeEngine()) as live:
        live.client.headers.update(ADMIN)
        yield live


async def load(client: httpx.AsyncClient, **fields: Any) -> httpx.Response:
    return await client.post(ROUTE, json={"name": "hers", "repo": MODEL, **fields})


async def test_a_hub_id_is_downloaded_and_kept_at_its_commit(
    server: LiveServer, hub: FakeHub, settings: Settings
) -> None:
    card = (await load(server.client)).json()
    assert card["source"] == {"kind": "hub", "location": MODEL, "revision": COMMIT}

    hub.fetched.clear()
    async with running_server(settings, FakeEngine()) as again:
        kept = (await again.client.get(f"{ROUTE}/hers", headers=ADMIN)).json()

    assert kept["version"] == card["version"]
    assert not hub.fetched


async def test_what_the_hub_does_not_have_is_404(server: LiveServer, hub: FakeHub) -> None:
    assert (await load(server.client, repo="somebody/else")).status_code == 404

    (hub.folder / "adapter_model.safetensors").unlink()
    assert (await load(server.client)).status_code == 404


async def test_too_large_an_adapter_is_not_even_downloaded(
    hub: FakeHub, settings: Settings
) -> None:
    make_adapter(hub.folder, rank=512)
    async with running_server(replace(settings, max_adapter_mib=1), FakeEngine()) as live:
        live.client.headers.update(ADMIN)
        reply = await load(live.client)

    assert (reply.status_code, "at most 1048576" in reply.text) == (422, True)
    assert not hub.fetched


async def test_a_hub_that_is_gone_is_tried_again_later(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("app.adapters.hub.HfApi", partial(HfApi, endpoint="http://127.0.0.1:1"))
    async with running_server(settings, FakeEngine()) as live:
        live.client.headers.update(ADMIN)
        reply = await load(live.client)

    assert (reply.status_code, reply.json()["error"]["code"]) == (503, "hub_unreachable")
    assert reply.headers["retry-after"]
