"""Engines that die, hang and do not start, behind a server that goes on."""

import asyncio
import math
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from app import supervision
from app.engine.base import Adapter, Origin, RenderedPrompt, Sampling
from app.errors import EngineDead, EngineRestarting
from app.metrics import Metrics
from app.settings import Settings
from app.supervision import SupervisedEngine
from tests.fake_engine import FakeEngine, Script
from tests.live_server import LiveServer, running_server
from tests.sse_client import payload, read_event

LIMIT_SECONDS = 10
ADAPTERS = [Adapter(f"a{number}", number, f"/a{number}") for number in (1, 2, 3)]


class Engines:
    """A factory that remembers what it made, and prepares what it makes next."""

    def __init__(self) -> None:
        self.made: list[FakeEngine] = []
        self.prepare: Callable[[FakeEngine], None] = lambda engine: None

    def __call__(self) -> FakeEngine:
        engine = FakeEngine()
        if self.made:
            self.prepare(engine)
        self.made.append(engine)
        return engine

    @property
    def newest(self) -> FakeEngine:
        return self.made[-1]


class Supervised:
    """A server, its engines, and what it measures."""

    def __init__(self, live: LiveServer, engines: Engines, metrics: Metrics) -> None:
        self.client = live.client
        self.server = live.server
        self.engine: Any = live.server.app.engine
        self.engines = engines
        self.metrics = metrics

    async def until(self, status: str) -> None:
        async with asyncio.timeout(LIMIT_SECONDS):
            while (await self.client.get("/health/ready")).json()["status"] != status:
                await asyncio.sleep(0.01)

    async def until_made(self, count: int) -> None:
        """Engines, of which the last one may not be there yet."""
        async with asyncio.timeout(LIMIT_SECONDS):
            while len(self.engines.made) < count:
                await asyncio.sleep(0.01)

    def restarts(self, reason: str) -> float:
        count: float = self.metrics.engine_restarts.labels(reason)._value.get()
        return count


@asynccontextmanager
async def supervised(**settings: Any) -> AsyncIterator[Supervised]:
    options = {"restart_backoff_seconds": 0.0, "max_engine_failures": 100} | settings
    chosen = Settings(port=0, model="fake/model", **options)
    engines, metrics = Engines(), Metrics()
    engine = SupervisedEngine(engines, chosen, metrics)
    async with running_server(chosen, engine, metrics) as live:
        running = Supervised(live, engines, metrics)
        await running.until("healthy")
        yield running


def hold(engine: FakeEngine) -> None:
    """Let an engine load for as long as the test wants."""
    engine.loaded.clear()


async def generate(client: httpx.AsyncClient, **fields: Any) -> httpx.Response:
    return await client.post("/generate", json={"prompt": "Hi", **fields})


async def test_a_stream_ends_with_one_error_event_and_the_next_engine_answers() -> None:
    async with supervised() as running:
        running.engines.newest.enqueue(Script(pause=asyncio.Event()))
        body = {"prompt": "Hi", "stream": True}
        async with running.client.stream("POST", "/generate", json=body) as stream:
            lines = stream.aiter_lines()
            await read_event(lines)
            running.engines.newest.die()
            rest = [payload(line) async for line in lines if line]

        assert [event["error"]["code"] for event in rest] == ["engine_dead"]
        assert (await generate(running.client)).status_code == 200
        assert len(running.engines.made) == 2
        assert running.restarts("died") == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_a_request_without_output_is_run_again(stream: bool) -> None:
    async with supervised() as running:
        first = running.engines.newest
        first.enqueue(Script(hold=asyncio.Event()))
        request = asyncio.create_task(generate(running.client, stream=stream))
        await asyncio.wait_for(first.submitted.wait(), LIMIT_SECONDS)

        first.die()
        reply = await request

        assert reply.status_code == 200
        assert "world" in reply.text
        assert "error" not in reply.text
        assert running.engines.newest.asked.prompt == first.asked.prompt


async def test_what_kills_every_engine_is_given_up() -> None:
    async with supervised(max_reruns=2) as running:

        async def kill_whatever_is_asked() -> None:
            while True:
                newest = running.engines.newest
                await newest.submitted.wait()
                newest.die()
                await asyncio.sleep(0)

        running.engines.newest.enqueue(Script(hold=asyncio.Event()))
        running.engines.prepare = lambda engine: engine.enqueue(Script(hold=asyncio.Event()))
        killer = asyncio.create_task(kill_whatever_is_asked())
        reply = await generate(running.client)
        killer.cancel()

        assert reply.status_code == 503
        assert reply.headers["x-should-retry"] == "false"
        assert "retry-after" not in reply.headers
        assert sum(len(engine.submissions) for engine in running.engines.made) == 3


async def test_requests_wait_for_the_next_engine_while_probes_are_answered() -> None:
    async with supervised() as running:
        running.engines.prepare = hold
        running.engines.newest.die()
        await running.until_made(2)
        waiting = [asyncio.create_task(generate(running.client)) for _ in range(3)]

        codes = {
            path: (await running.client.get(path)).status_code
            for path in ("/health", "/health/ready", "/health/live", "/v1/models")
        }
        assert codes == {
            "/health": 503,
            "/health/ready": 503,
            "/health/live": 200,
            "/v1/models": 200,
        }
        assert not any(request.done() for request in waiting)

        running.engines.newest.loaded.set()
        assert [(await request).status_code for request in waiting] == [200] * 3


async def test_who_waits_too_long_is_told_when_to_come_back() -> None:
    async with supervised(restart_wait_seconds=0.05) as running:
        running.engines.prepare = hold
        running.engines.newest.die()

        reply = await running.client.post("/v1/completions", json={"prompt": "Hi"})

        assert reply.status_code == 503
        assert reply.json()["error"]["code"] == "engine_restarting"
        assert reply.headers["retry-after"] == str(EngineRestarting.retry_after_seconds)


class Clock:
    """Time as supervision sees it; the loop's goes on."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


async def submit(engine: Any, arrived: float) -> Any:
    prompt, sampling = RenderedPrompt([1]), Sampling({"max_tokens": 4}, stream=True)
    return await engine.submit(prompt, sampling, None, Origin(arrived=arrived))


async def test_time_in_the_queue_is_time_waited_for_the_next_engine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock()
    monkeypatch.setattr(supervision, "time", clock)
    async with supervised(restart_wait_seconds=60) as running:
        running.engines.prepare = hold
        running.engines.newest.die()
        await running.until_made(2)
        clock.now += 100

        with pytest.raises(EngineRestarting):
            await asyncio.wait_for(submit(running.engine, clock.now - 500), LIMIT_SECONDS)
        recent = [
            asyncio.create_task(submit(running.engine, arrived))
            for arrived in (clock.now - 10, math.inf)
        ]
        async with asyncio.timeout(LIMIT_SECONDS):
            while len(running.engine._waiting) < 2:
                await asyncio.sleep(0)
        running.engines.newest.loaded.set()
        for generation in await asyncio.wait_for(asyncio.gather(*recent), LIMIT_SECONDS):
            await generation.aclose()


async def test_who_has_waited_for_a_place_may_wait_for_an_engine_that_dies_just_now() -> None:
    async with supervised() as running:
        running.engines.prepare = hold
        running.engines.newest.die()
        waiting = asyncio.create_task(submit(running.engine, arrived=0))
        await running.until_made(2)
        assert not waiting.done()

        running.engines.newest.loaded.set()
        await (await asyncio.wait_for(waiting, LIMIT_SECONDS)).aclose()


async def test_an_impatient_request_takes_no_reply_from_those_that_share_it() -> None:
    async with supervised() as running:
        running.engines.prepare = hold
        running.engines.newest.die()
        impatient = asyncio.create_task(generate(running.client, temperature=0, timeout=1))
        async with asyncio.timeout(LIMIT_SECONDS):
            while not running.engine._waiting:
                await asyncio.sleep(0.01)
        patient = asyncio.create_task(generate(running.client, temperature=0))

        assert (await impatient).status_code == 504
        running.engines.newest.loaded.set()
        reply = await patient

        assert (reply.status_code, reply.headers.get("x-cache")) == (200, "shared")


async def test_an_engine_that_hangs_over_an_adapter_is_replaced() -> None:
    async with supervised(hang_seconds=0.1, stall_seconds=0.05) as running:
        await running.engine.add_adapter(ADAPTERS[0])

        def hang(engine: FakeEngine) -> None:
            running.engines.prepare = lambda _: None
            engine.adding.clear()

        running.engines.prepare = hang
        running.engines.newest.die()
        await running.until_made(3)
        await running.until("healthy")

        assert running.engines.newest.adapters == {1: ADAPTERS[0]}


async def test_a_client_that_leaves_while_it_waits_disturbs_nobody() -> None:
    async with supervised() as running:
        running.engines.prepare = hold
        running.engines.newest.die()
        leaving, staying = (asyncio.create_task(generate(running.client)) for _ in range(2))
        async with asyncio.timeout(LIMIT_SECONDS):
            while len(running.engine._waiting) < 2:
                await asyncio.sleep(0.01)
        await running.until_made(2)

        leaving.cancel()
        running.engines.newest.loaded.set()

        assert (await staying).status_code == 200


async def test_adapters_come_back_with_their_numbers_and_pins() -> None:
    async with supervised() as running:
        for adapter in ADAPTERS:
            await running.engine.add_adapter(adapter)
        await running.engine.pin_adapter(ADAPTERS[1])
        await running.engine.remove_adapter(ADAPTERS[0])
        running.engines.prepare = hold
        running.engines.newest.die()
        await running.until("restarting")

        await running.engine.remove_adapter(ADAPTERS[2])
        await running.until_made(2)
        running.engines.newest.loaded.set()
        await running.until("healthy")

        assert running.engines.newest.adapters == {2: ADAPTERS[1]}
        assert running.engines.newest.pinned == [2]


async def test_engines_that_do_not_start_are_replaced_after_growing_pauses(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with supervised(restart_backoff_seconds=0.001) as running:
        failing = [EngineDead("No memory."), EngineDead("No memory."), None]

        def fail(engine: FakeEngine) -> None:
            engine.start_failure = failing.pop(0)

        running.engines.prepare = fail
        running.engines.newest.die()
        await running.until_made(4)
        await running.until("healthy")

    text = caplog.text
    assert text.index("in 0.001 s") < text.index("in 0.002 s") < text.index("in 0.004 s")
    assert text.count("No memory.") == 2


async def test_too_many_failures_end_the_server() -> None:
    async with supervised(max_engine_failures=1) as running:
        running.engines.newest.die()
        await running.until_made(2)
        await running.until("healthy")

        running.engines.newest.die()
        async with asyncio.timeout(LIMIT_SECONDS):
            while not running.server.engine_failed:
                await asyncio.sleep(0.01)

        assert len(running.engines.made) == 2


async def test_an_engine_that_stalls_is_not_ready_until_it_goes_on() -> None:
    async with supervised(stall_seconds=0.05) as running:
        running.engines.newest.beating.clear()
        await running.until("stalled")
        assert (await running.client.get("/health/live")).status_code == 200
        assert (await generate(running.client)).status_code == 200

        running.engines.newest.beating.set()
        await running.until("healthy")

        assert len(running.engines.made) == 1


async def test_an_engine_that_hangs_is_closed_and_replaced() -> None:
    async with supervised(stall_seconds=0.05, hang_seconds=0.1) as running:
        hanging = running.engines.newest
        hanging.enqueue(Script(hold=asyncio.Event()))
        request = asyncio.create_task(generate(running.client))
        await asyncio.wait_for(hanging.submitted.wait(), LIMIT_SECONDS)

        hanging.beating.clear()

        assert (await request).status_code == 200
        assert hanging.died.is_set()
        assert running.restarts("hung") == 1


async def test_metrics_tell_of_restarts_and_of_silence() -> None:
    async with supervised(stall_seconds=0.05) as running:
        assert "slipstream_engine_ready 1.0" in (await running.client.get("/metrics")).text
        running.engines.newest.beating.clear()
        await running.until("stalled")

        text = (await running.client.get("/metrics")).text

        assert "slipstream_engine_ready 0.0" in text
        (silence,) = [
            line.split()[1]
            for line in text.splitlines()
            if line.startswith("slipstream_engine_silence_seconds ")
        ]
        assert float(silence) > 0.05


async def test_a_signal_while_it_restarts_ends_it_and_what_waits() -> None:
    async with supervised(drain_seconds=0.0) as running:
        running.engines.prepare = hold
        running.engines.newest.die()
        waiting = asyncio.create_task(generate(running.client))
        async with asyncio.timeout(LIMIT_SECONDS):
            while not running.engine._waiting:
                await asyncio.sleep(0.01)

        running.server.handle_exit(signal.SIGTERM, None)

        reply = await waiting
        assert (reply.status_code, reply.headers["retry-after"]) == (503, "1")
        assert not running.server.engine_failed
