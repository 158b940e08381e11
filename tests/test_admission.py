import asyncio
import signal

import httpx
import pytest

from app.errors import EngineDead
from app.settings import Settings
from tests.fake_engine import FakeEngine, Script
from tests.live_server import running_server
from tests.sse_client import events, read_event

CHAT = {"messages": [{"role": "user", "content": "a"}]}


async def test_no_permit_left_is_503_with_retry_after() -> None:
    engine, hold = FakeEngine(), asyncio.Event()
    engine.enqueue(Script(hold=hold))
    async with running_server(Settings(port=0, max_in_flight=1), engine) as live:
        first = asyncio.create_task(live.client.post("/chat", json=CHAT))
        await asyncio.wait_for(engine.submitted.wait(), 5)

        native = await live.client.post("/chat", json=CHAT)
        openai = await live.client.post("/v1/chat/completions", json=CHAT)
        health = await live.client.get("/health")
        hold.set()

        assert (native.status_code, set(native.json())) == (503, {"detail"})
        assert (openai.status_code, openai.json()["error"]["code"]) == (503, "overloaded")
        assert int(native.headers["retry-after"]) > 0
        assert health.status_code == 200
        assert (await first).status_code == 200


async def test_drain_finishes_streams_and_refuses_new_work() -> None:
    engine, pause = FakeEngine(), asyncio.Event()
    engine.enqueue(Script(pause=pause))
    async with running_server(Settings(port=0), engine) as live:
        stream = {**CHAT, "stream": True}
        async with live.client.stream("POST", "/chat", json=stream) as reply:
            lines = reply.aiter_lines()
            await read_event(lines)
            live.server.handle_exit(signal.SIGTERM, None)

            refused = await live.client.post("/chat", json=CHAT)
            health = await live.client.get("/health")
            pause.set()
            rest = [line async for line in lines if line]

        assert (refused.status_code, refused.headers["connection"]) == (503, "close")
        assert (health.status_code, health.json()["status"]) == (503, "draining")
        assert rest[-1] == "data: [DONE]"


async def test_second_signal_ends_what_is_left_with_an_error_event() -> None:
    engine = FakeEngine()
    engine.enqueue(Script(pause=asyncio.Event()))
    async with running_server(Settings(port=0, drain_seconds=3600), engine) as live:
        stream = {**CHAT, "stream": True}
        async with live.client.stream("POST", "/chat", json=stream) as reply:
            lines = reply.aiter_lines()
            await read_event(lines)
            live.server.handle_exit(signal.SIGTERM, None)
            live.server.handle_exit(signal.SIGTERM, None)
            rest = [line async for line in lines if line]

    assert len(rest) == 1
    assert events(rest[0])[0]["error"]["code"] == "generation_failed"


async def test_abort_that_fails_does_not_keep_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken() -> None:
        raise EngineDead("The engine has died.")

    engine, pause = FakeEngine(), asyncio.Event()
    engine.enqueue(Script(pause=pause))
    monkeypatch.setattr(engine, "abort_all", broken)
    async with running_server(Settings(port=0), engine) as live:
        stream = {**CHAT, "stream": True}
        async with live.client.stream("POST", "/chat", json=stream) as reply:
            lines = reply.aiter_lines()
            await read_event(lines)
            live.server.handle_exit(signal.SIGTERM, None)
            live.server.handle_exit(signal.SIGTERM, None)
            async with asyncio.timeout(5):
                while live.server.servers[0].is_serving():
                    await asyncio.sleep(0.01)
            pause.set()
            assert [line async for line in lines if line][-1] == "data: [DONE]"


async def test_web_pages_of_allowed_origins_may_read_replies_and_streams() -> None:
    settings = Settings(port=0, cors_origins=("https://a.example",))
    headers = {"origin": "https://a.example"}
    async with running_server(settings, FakeEngine()) as live:
        for stream in (False, True):
            body = {**CHAT, "stream": stream}
            reply = await live.client.post("/v1/chat/completions", json=body, headers=headers)

            assert reply.headers["access-control-allow-origin"] == "https://a.example"


async def test_web_pages_may_read_why_they_were_not_let_in() -> None:
    settings = Settings(port=0, cors_origins=("https://a.example",))
    async with running_server(settings, FakeEngine()) as live:
        live.server.app.admission.max_in_flight = 0
        allowed, other = [
            await live.client.post("/chat", json=CHAT, headers={"origin": origin})
            for origin in ("https://a.example", "https://b.example")
        ]

    assert (allowed.status_code, other.status_code) == (503, 503)
    assert allowed.headers["access-control-allow-origin"] == "https://a.example"
    assert allowed.headers["vary"] == "Origin"
    assert "access-control-allow-origin" not in other.headers


async def test_without_cors_origins_there_are_no_cors_headers(client: httpx.AsyncClient) -> None:
    reply = await client.post("/chat", json=CHAT, headers={"origin": "https://a.example"})

    assert "access-control-allow-origin" not in reply.headers


async def test_dead_engine_ends_the_server_with_a_status() -> None:
    engine = FakeEngine()
    async with running_server(Settings(port=0), engine) as live:
        engine.status = "failed"
        async with asyncio.timeout(5):
            while not live.server.engine_failed:
                await asyncio.sleep(0.01)


async def test_request_id_is_taken_or_made(client: httpx.AsyncClient) -> None:
    taken = await client.get("/health", headers={"x-request-id": "abc-1"})
    made = await client.get("/health", headers={"x-request-id": "no spaces"})
    streamed = await client.post(
        "/chat", json={**CHAT, "stream": True}, headers={"x-request-id": "abc-2"}
    )

    assert taken.headers["x-request-id"] == "abc-1"
    assert len(made.headers["x-request-id"]) == 32
    assert streamed.headers["x-request-id"] == "abc-2"
    assert events(streamed.text)[-1] == "[DONE]"
