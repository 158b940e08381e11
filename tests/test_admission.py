import asyncio
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from app.admission import Admission
from app.engine.base import Limits
from app.errors import EngineDead, Overloaded
from app.settings import Settings
from tests.fake_engine import FakeEngine, Script
from tests.live_server import LiveServer, running_server
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


async def test_second_signal_ends_what_waits_for_the_engine_too() -> None:
    engine, hold = FakeEngine(Limits(2048, 256, 1, max_num_seqs=1)), asyncio.Event()
    engine.enqueue(*(Script(hold=hold) for _ in range(3)))
    async with running_server(Settings(port=0, drain_seconds=3600), engine) as live:
        tasks = [asyncio.create_task(live.client.post("/chat", json=CHAT)) for _ in range(3)]
        async with asyncio.timeout(5):
            while not live.server.app.queue._backlog:  # type: ignore[attr-defined]
                await asyncio.sleep(0.005)
        live.server.handle_exit(signal.SIGTERM, None)
        live.server.handle_exit(signal.SIGTERM, None)
        done, _ = await asyncio.wait(tasks, timeout=5, return_when=asyncio.FIRST_COMPLETED)
        hold.set()
        await asyncio.wait(tasks)

    assert [task.result().status_code for task in done] == [503]
    assert len(engine.submissions) == 2, "what waited was not begun any more"


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
        live.server.app.admission.drain()
        allowed, other = [
            await live.client.post("/chat", json=CHAT, headers={"origin": origin})
            for origin in ("https://a.example", "https://b.example")
        ]

    assert (allowed.status_code, other.status_code) == (503, 503)
    assert allowed.headers["access-control-allow-origin"] == "https://a.example"
    assert allowed.headers["vary"] == "Origin"
    assert "retry-after" in allowed.headers["access-control-expose-headers"]
    assert "access-control-allow-origin" not in other.headers


async def test_without_cors_origins_there_are_no_cors_headers(client: httpx.AsyncClient) -> None:
    reply = await client.post("/chat", json=CHAT, headers={"origin": "https://a.example"})

    assert "access-control-allow-origin" not in reply.headers


async def seconds_until_closed(live: LiveServer) -> float:
    """How long new requests are still answered: 503, and that they should go elsewhere."""
    started = time.monotonic()
    async with asyncio.timeout(10):
        while True:
            try:
                reply = await live.client.post("/chat", json=CHAT)
            except httpx.TransportError:
                return time.monotonic() - started
            assert (reply.status_code, reply.headers["connection"]) == (503, "close")
            assert reply.headers["retry-after"]


async def test_after_sigterm_an_idle_server_refuses_for_a_while() -> None:
    async with running_server(Settings(port=0, linger_seconds=0.5), FakeEngine()) as live:
        live.server.handle_exit(signal.SIGTERM, None)

        assert await seconds_until_closed(live) > 0.4


@pytest.mark.parametrize("signals", [[signal.SIGINT], [signal.SIGTERM, signal.SIGTERM]])
async def test_after_ctrl_c_or_a_second_signal_an_idle_server_closes_at_once(
    signals: list[signal.Signals],
) -> None:
    async with running_server(Settings(port=0, linger_seconds=3600), FakeEngine()) as live:
        for each in signals:
            live.server.handle_exit(each, None)

        assert await seconds_until_closed(live) < 5


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


async def test_refusal_says_how_long_requests_take() -> None:
    admission = Admission(max_in_flight=1)
    admission._pace.note(12.3)

    with admission.permit("/chat"), pytest.raises(Overloaded) as refusal, admission.permit("/chat"):
        pass

    assert refusal.value.headers["retry-after"] == "13"


async def test_one_key_cannot_hold_all_permits() -> None:
    engine, hold = FakeEngine(), asyncio.Event()
    engine.enqueue(*(Script(hold=hold) for _ in range(3)))
    settings = Settings(port=0, max_in_flight=4, owner_share=0.5, api_keys=("flood", "other"))
    async with running_server(settings, engine) as live:
        flood = [asyncio.create_task(ask(live, "flood")) for _ in range(2)]
        await until_submitted(engine, 2)

        refused = await ask(live, "flood")
        watched = await live.client.get("/metrics", headers={"authorization": "Bearer flood"})
        other = asyncio.create_task(ask(live, "other"))
        await until_submitted(engine, 3)
        hold.set()

        assert (refused.status_code, watched.status_code) == (503, 200)
        assert int(refused.headers["retry-after"]) >= 1
        assert {reply.status_code for reply in await asyncio.gather(*flood, other)} == {200}
        assert (await ask(live, "flood")).status_code == 200
        assert not +live.server.app.admission._owners


async def ask(live: LiveServer, key: str) -> httpx.Response:
    return await live.client.post("/chat", json=CHAT, headers={"authorization": f"Bearer {key}"})


async def until_submitted(engine: FakeEngine, count: int) -> None:
    async with asyncio.timeout(5):
        while len(engine.submissions) < count:
            await asyncio.sleep(0.005)


UNREAD_BYTES = 12 * 2**20
"""More than the buffers of both sides hold."""


def head(length: int, *more: str) -> bytes:
    lines = ["POST /chat HTTP/1.1", "Host: a", "Content-Type: application/json"]
    return "\r\n".join([*lines, f"Content-Length: {length}", *more, "", ""]).encode()


@pytest.mark.parametrize("draining", [False, True])
async def test_refusal_reaches_a_client_that_is_still_sending(draining: bool) -> None:
    """Closing while a body is on its way would reset the connection, and destroy the reply."""
    async with full_server(draining) as live:
        reader, writer = await live.connect()
        writer.write(head(UNREAD_BYTES) + b"x" * UNREAD_BYTES)
        async with asyncio.timeout(20):
            await writer.drain()
            status = await reader.readline()

        assert status.startswith(b"HTTP/1.1 503 ")
        writer.close()
        await writer.wait_closed()


async def test_refusal_does_not_wait_for_the_body() -> None:
    async with full_server(False) as live:
        reader, writer = await live.connect()
        writer.write(head(UNREAD_BYTES) + b"x")
        async with asyncio.timeout(5):
            reply = await reader.readuntil(b"\r\n\r\n")

        assert reply.startswith(b"HTTP/1.1 503 ")
        writer.close()
        await writer.wait_closed()


async def test_body_that_was_only_announced_is_not_asked_for() -> None:
    async with full_server(False) as live:
        reader, writer = await live.connect()
        writer.write(head(UNREAD_BYTES, "Expect: 100-continue"))
        async with asyncio.timeout(5):
            reply = await reader.read()

        assert reply.startswith(b"HTTP/1.1 503 ")
        assert b"connection: close" in reply
        assert b"100 Continue" not in reply
        writer.close()
        await writer.wait_closed()


@asynccontextmanager
async def full_server(draining: bool) -> AsyncIterator[LiveServer]:
    """A server that refuses whatever comes."""
    async with running_server(Settings(port=0, max_in_flight=1), FakeEngine()) as live:
        with live.server.app.admission.permit("/chat"):
            if draining:
                live.server.handle_exit(signal.SIGTERM, None)
            yield live


async def test_errors_that_would_only_come_again_tell_clients_not_to_retry(
    client: httpx.AsyncClient, engine: FakeEngine
) -> None:
    engine.enqueue(Script(refusal=ZeroDivisionError()))

    reply = await client.post("/chat", json=CHAT)

    assert (reply.status_code, reply.headers["x-should-retry"]) == (500, "false")
