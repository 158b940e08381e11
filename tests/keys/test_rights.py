"""What a key may do, and for how long, through the HTTP door."""

import asyncio
import datetime
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from app.asgi import create_app
from app.configuration import ConfigurationError
from app.engine.base import HIGH, NORMAL
from app.errors import Unauthorized
from app.keys.file import KeyFile
from app.keys.grant import Grant
from app.keys.ring import KeyRing
from app.settings import Settings
from tests.engine.adapter import make_adapter
from tests.fake_engine import FakeEngine
from tests.keys.conftest import Hire, hashed, header
from tests.live_server import LiveServer, running_server

CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "a"}]}
RELOAD_SECONDS = 10


@pytest.fixture
def settings(key_file: KeyFile, tmp_path: Path) -> Settings:
    adapter = make_adapter(tmp_path / "pirate")
    return Settings(
        port=0,
        model="fake/model",
        model_aliases=("base",),
        adapters={"pirate": str(adapter)},
        key_file=str(key_file.path),
        api_keys=("plain",),
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


async def until_status(
    client: httpx.AsyncClient, headers: dict[str, str], status: int
) -> httpx.Response:
    async with asyncio.timeout(RELOAD_SECONDS):
        while (reply := await client.get("/v1/models", headers=headers)).status_code != status:
            await asyncio.sleep(0.01)
    return reply


async def test_keys_of_the_file_and_of_the_settings_open(live: LiveServer) -> None:
    for key in ("somebody", "plain", "boss"):
        reply = await live.client.post("/chat", json=CHAT, headers=header(key))
        assert reply.status_code == 200
    assert (await live.client.post("/chat", json=CHAT, headers=header("x"))).status_code == 401


async def test_the_engine_is_told_whose_a_generation_is(
    live: LiveServer, engine: FakeEngine
) -> None:
    owners = []
    for key in ("somebody", "plain", "boss"):
        await live.client.post("/chat", json=CHAT, headers=header(key))
        owners.append(engine.asked.origin.owner)

    assert owners == ["somebody", "key-1", "admin-1"]


async def test_without_keys_nobody_in_particular_owns_a_generation(
    engine: FakeEngine,
) -> None:
    async with running_server(Settings(port=0), engine) as live:
        await live.client.post("/chat", json=CHAT, headers=header("anything"))

    assert engine.asked.origin.owner == ""


async def test_keys_come_and_go_while_the_server_runs(
    live: LiveServer, hire: Hire, key_file: KeyFile
) -> None:
    headers = hire("late")
    await until_status(live.client, headers, 200)

    key_file.remove("late")

    refused = await until_status(live.client, headers, 401)
    assert refused.headers["www-authenticate"] == "Bearer"
    assert (await live.client.get("/v1/models", headers=header("somebody"))).status_code == 200


async def test_a_file_that_breaks_or_goes_keeps_the_keys_that_it_had(
    live: LiveServer, hire: Hire, key_file: KeyFile, caplog: pytest.LogCaptureFixture
) -> None:
    text = key_file.path.read_text()
    for broken in ("[", None):
        caplog.clear()
        if broken is None:
            key_file.path.unlink()
        else:
            key_file.path.write_text(broken)
        async with asyncio.timeout(RELOAD_SECONDS):
            while "the keys stay as they were" not in caplog.text:
                await asyncio.sleep(0.01)
        reply = await live.client.get("/v1/models", headers=header("somebody"))
        assert reply.status_code == 200
    key_file.path.write_text(text)
    await until_status(live.client, hire("later"), 200)


def test_a_broken_file_stops_the_start(settings: Settings, key_file: KeyFile) -> None:
    key_file.path.write_text("[")

    with pytest.raises(ConfigurationError, match="The key file is not TOML"):
        create_app(settings, FakeEngine())


async def test_an_empty_file_lets_nobody_in(tmp_path: Path) -> None:
    file = tmp_path / "keys.toml"
    file.touch()
    async with running_server(Settings(port=0, key_file=str(file)), FakeEngine()) as live:
        assert (await live.client.get("/v1/models")).status_code == 401
        assert (await live.client.get("/v1/models", headers=header("x"))).status_code == 401


async def test_a_file_that_is_empty_while_it_is_written_takes_no_key_away(
    settings: Settings, key_file: KeyFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    ring, text = KeyRing(settings), key_file.path.read_text()
    key_file.path.write_text("")

    async def wait(_: float) -> None:
        assert ring.caller("somebody").alias == "somebody"
        key_file.path.write_text(text)

    monkeypatch.setattr("app.keys.ring.sleep", wait)
    await ring.reload()

    assert ring.caller("somebody").alias == "somebody"


async def test_a_file_that_stays_empty_takes_all_its_keys_away(
    settings: Settings, key_file: KeyFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    ring = KeyRing(settings)
    key_file.remove("somebody")

    monkeypatch.setattr("app.keys.ring.REWRITE_SECONDS", 0)
    await ring.reload()

    with pytest.raises(Unauthorized):
        ring.caller("somebody")
    assert ring.caller("plain").alias == "key-1"


async def test_an_expired_key_is_refused_from_that_moment_on(
    live: LiveServer, hire: Hire, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = datetime.datetime.now(datetime.UTC)
    headers = hire("guest", expires=now + datetime.timedelta(hours=1))
    await until_status(live.client, headers, 200)

    class Later(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> "Later":
            return cls.fromtimestamp(now.timestamp() + 3600, tz)

    monkeypatch.setattr("app.keys.ring.datetime.datetime", Later)

    assert (await live.client.get("/v1/models", headers=headers)).status_code == 401


ROUTES = {
    "chat": [("POST", "/chat"), ("POST", "/v1/chat/completions"), ("POST", "/")],
    "completions": [("POST", "/generate"), ("POST", "/v1/completions")],
    "batch": [("POST", "/batch")],
    "tokens": [("POST", "/tokenize"), ("POST", "/detokenize")],
    "read": [("GET", "/v1/models"), ("GET", "/v1/usage"), ("GET", "/version"), ("GET", "/docs")],
    "metrics": [("GET", "/metrics")],
    "adapters": [("GET", "/v1/adapters"), ("POST", "/v1/load_lora_adapter")],
}


@pytest.mark.parametrize("scope", [*ROUTES, "admin"])
async def test_a_scope_opens_its_routes_and_no_others(
    settings: Settings, hire: Hire, scope: str
) -> None:
    headers = hire("worker", scopes=(scope,))
    async with running_server(settings, FakeEngine()) as live:
        for needed, routes in ROUTES.items():
            for method, path in routes:
                reply = await live.client.request(method, path, headers=headers)
                forbidden = reply.status_code == 403
                assert forbidden == (scope not in (needed, "admin")), (path, reply.text)
                if forbidden:
                    assert f"lacks the scope '{needed}'" in reply.text


async def test_every_route_that_changes_or_makes_something_says_what_it_needs(
    live: LiveServer,
) -> None:
    handlers = {
        (method, route.path): handler
        for route in live.server.app.litestar.routes
        for method, (handler, *_) in getattr(route, "route_handler_map", {}).items()
        if method not in ("GET", "HEAD", "OPTIONS")
    }

    assert len(handlers) > 12
    assert [key for key, handler in handlers.items() if "scope" not in handler.opt] == []


async def test_a_key_for_some_models_sees_no_others(settings: Settings, hire: Hire) -> None:
    headers = hire("sailor", models=("pirate",))
    async with running_server(settings, FakeEngine()) as live:
        ask = live.client
        listed = (await ask.get("/v1/models", headers=headers)).json()["data"]
        own = await ask.post("/chat", json={**CHAT, "model": "pirate"}, headers=headers)
        hidden = await ask.get("/v1/models/model", headers=headers)
        refusals = [
            await ask.post("/v1/chat/completions", json={**CHAT, **model}, headers=headers)
            for model in ({"model": "model"}, {"model": "base"}, {}, {"model": "none"})
        ]

        details = await ask.get("/model/info", headers=headers)

    assert [each["id"] for each in listed] == ["pirate"]
    assert details.status_code == 404
    assert (own.status_code, own.json()["model"], hidden.status_code) == (200, "pirate", 404)
    for refusal in refusals:
        error = refusal.json()["error"]
        assert (refusal.status_code, error["code"]) == (404, "model_not_found")
        assert error["message"].endswith("served are: pirate.")


async def test_a_key_for_the_base_model_does_not_learn_where_adapters_are(
    settings: Settings, hire: Hire
) -> None:
    headers = hire("lubber", models=("model",))
    async with running_server(settings, FakeEngine()) as live:
        details = await live.client.get("/model/info", headers=headers)

    assert (details.status_code, details.json()["adapter_path"]) == (200, None)


async def test_a_key_has_no_higher_priority_than_it_is_given(
    settings: Settings, hire: Hire, engine: FakeEngine
) -> None:
    asked = {"x-request-priority": "high"}
    headers = {"usual": hire("usual"), "urgent": hire("urgent", highest_priority="high")}
    priorities = {}
    async with running_server(settings, engine) as live:
        for alias, key in headers.items():
            reply = await live.client.post("/chat", json=CHAT, headers=key | asked)
            assert reply.status_code == 200
            priorities[alias] = engine.asked.origin.priority

    assert (NORMAL, HIGH) == (0, -1)
    assert priorities["usual"] > priorities["urgent"]


async def test_the_file_says_more_of_a_key_than_the_settings(
    settings: Settings, key_file: KeyFile
) -> None:
    key_file.add("known", Grant(hash=hashed("plain"), scopes=("read",)))
    async with running_server(settings, FakeEngine()) as live:
        reply = await live.client.post("/chat", json=CHAT, headers=header("plain"))

    assert reply.status_code == 403
