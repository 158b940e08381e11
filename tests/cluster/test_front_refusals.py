"""What the front says by itself: too much, too late, without a key, and its metrics."""

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path

from app.errors import GenerationFailed
from app.keys.file import KeyFile
from app.keys.grant import Grant
from app.settings import Settings
from tests.cluster.live_front import (
    CHAT,
    STREAM,
    WAIT_SECONDS,
    finished,
    pause_all,
    running_front,
    until,
)
from tests.keys.conftest import hashed, header
from tests.sse_client import read_event


async def test_without_a_replica_everything_but_liveness_is_503() -> None:
    async with running_front(Settings(port=0)) as front:
        chat = await front.client.post("/v1/chat/completions", json=CHAT)
        health = await front.client.get("/health")
        live = await front.client.get("/health/live")
        metrics = await front.client.get("/metrics")

    assert (chat.status_code, chat.json()["error"]["code"]) == (503, "model_not_loaded")
    assert (health.status_code, live.status_code, metrics.status_code) == (503, 200, 200)
    assert "slipstream_cluster_replicas_ready 0.0" in metrics.text


async def test_web_pages_may_read_why_they_were_not_let_in() -> None:
    settings = Settings(port=0, cors_origins=("https://a.example",))
    async with running_front(settings) as front:
        headers = {"origin": "https://a.example"}
        reply = await front.client.post("/v1/chat/completions", json=CHAT, headers=headers)

    assert reply.status_code == 503
    assert reply.headers["access-control-allow-origin"] == "https://a.example"


async def test_front_bounds_what_comes_in_as_one_server_does() -> None:
    async with running_front(Settings(port=0), "one") as front:
        reply = await front.client.get("/v1/models", headers={"x-long": "a" * 100_000})

    assert (reply.status_code, reply.json()["error"]["code"]) == (431, "headers_too_large")


async def test_nobody_waits_for_a_replica_when_the_last_has_gone() -> None:
    async with running_front(Settings(port=0), "one") as front:
        front.fleet.replicas.clear()
        reply = await front.client.post("/chat", json=CHAT)

    assert reply.status_code == 503
    assert reply.json() == {"detail": "No replica is ready."}


async def test_more_requests_than_all_replicas_take_are_refused() -> None:
    settings = Settings(port=0, max_in_flight=1, replica_in_flight=1)
    async with running_front(settings, "one", "two") as front:
        await until(lambda: front.server.app.admission.max_in_flight == 2)
        pause_all(front)
        first = front.client.stream("POST", "/chat", json=STREAM)
        second = front.client.stream("POST", "/chat", json=STREAM)
        async with first as one, second as two:
            replicas = {one.headers["x-replica"], two.headers["x-replica"]}
            refused = await front.client.post("/v1/chat/completions", json=CHAT)

    assert replicas == {"one", "two"}
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "overloaded")


async def test_drain_finishes_streams_and_refuses_new_work() -> None:
    async with running_front(Settings(port=0), "one", "two") as front:
        pause = pause_all(front)
        async with front.client.stream("POST", "/chat", json=STREAM) as reply:
            lines = reply.aiter_lines()
            await read_event(lines)
            front.server.handle_exit(signal.SIGTERM, None)
            refused = await front.client.post("/chat", json=CHAT)
            ready = await front.client.get("/health/ready")
            live = await front.client.get("/health/live")
            pause.set()
            rest = await finished(lines)

    assert (refused.status_code, ready.status_code, live.status_code) == (503, 503, 200)
    assert rest[-1] == "[DONE]"


async def test_second_signal_ends_what_is_left_with_an_error_event() -> None:
    async with running_front(Settings(port=0, drain_seconds=3600), "one", "two") as front:
        pause_all(front)
        async with front.client.stream("POST", "/chat", json=STREAM) as reply:
            lines = reply.aiter_lines()
            await read_event(lines)
            for _ in range(2):
                front.server.handle_exit(signal.SIGTERM, None)
            rest = await finished(lines)

    assert [event["error"]["code"] for event in rest] == [GenerationFailed.code]


async def test_replicas_that_cannot_start_end_the_server() -> None:
    async with running_front(Settings(port=0), "one") as front:
        front.fleet.status = "failed"
        await until(lambda: front.server.engine_failed)


async def test_without_a_key_no_body_reaches_a_replica() -> None:
    async with running_front(Settings(port=0, api_keys=("sesame",)), "one") as front:
        without = await front.client.post("/v1/chat/completions", json=CHAT)
        metrics = await front.client.get("/metrics")
        health = await front.client.get("/health")
        headers = {"authorization": "Bearer sesame"}
        with_key = await front.client.post("/chat", json=CHAT, headers=headers)
        bodies = [request.body for request in front.fleet.replicas["one"].requests]

    assert (without.status_code, without.json()["error"]["code"]) == (401, "invalid_api_key")
    assert metrics.status_code == 401
    assert health.status_code == 200
    assert with_key.status_code == 200
    assert [bool(body) for body in bodies] == [False, False, True]


async def test_front_and_replicas_take_the_same_of_two_keys() -> None:
    statuses = []
    async with running_front(Settings(port=0, api_keys=("right",)), "one") as front:
        for keys in (("right", "wrong"), ("wrong", "right")):
            headers = [("authorization", f"Bearer {key}") for key in keys]
            for method, path in (("POST", "/chat"), ("GET", "/metrics")):
                reply = await front.client.request(method, path, json=CHAT, headers=headers)
                statuses.append(reply.status_code)

    assert statuses == [200, 200, 401, 401]


async def test_a_body_that_is_too_large_is_413_and_read_no_further() -> None:
    async with running_front(Settings(port=0, max_body_bytes=2048), "one") as front:

        async def parts() -> AsyncIterator[bytes]:
            for _ in range(100):
                yield b" " * 1024

        headers = {"content-type": "application/json"}
        reply = await front.client.post("/chat", content=parts(), headers=headers)
        received = front.fleet.replicas["one"].requests[0].body

    assert reply.status_code == 413
    assert len(received) < 100 * 1024


async def test_metrics_hold_every_replica_and_what_each_was_given() -> None:
    async with running_front(Settings(port=0), "one", "two") as front:
        for number in range(16):
            await front.client.post("/chat", json=CHAT, headers={"x-session-id": str(number)})
        text = (await front.client.get("/metrics")).text

    for name in ("one", "two"):
        assert f'slipstream_cluster_requests_total{{outcome="answered",replica="{name}"}}' in text
        assert f'slipstream_http_requests_in_flight{{replica="{name}"}}' in text
    assert "slipstream_cluster_replicas_ready 2.0" in text


async def test_front_and_replicas_follow_one_key_file(tmp_path: Path) -> None:
    file = KeyFile(tmp_path / "keys.toml")
    file.add("reader", Grant(hash=hashed("reader"), scopes=("read",)))
    settings = Settings(port=0, key_file=str(file.path), state_dir=str(tmp_path / "state"))
    async with running_front(settings, "one") as front:
        client, headers = front.client, header("late")
        assert (await client.post("/chat", json=CHAT, headers=headers)).status_code == 401
        assert (await client.get("/metrics", headers=header("reader"))).status_code == 403

        file.add("late", Grant(hash=hashed("late"), requests_per_minute=1000, scopes=("admin",)))
        async with asyncio.timeout(WAIT_SECONDS):
            while (await client.get("/metrics", headers=headers)).status_code != 200:
                await asyncio.sleep(0.01)
        async with asyncio.timeout(WAIT_SECONDS):
            while (await client.get("/v1/models", headers=headers)).status_code != 200:
                await asyncio.sleep(0.01)
        reply = await client.post("/chat", json=CHAT, headers=headers)

    assert reply.status_code == 200
    assert reply.headers["x-ratelimit-limit-requests"] == "1000"
    assert len(front.fleet.replicas["one"].requests[0].body) == 0
