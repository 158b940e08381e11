"""Requests, departures, swaps and a drain in any order: nothing is left, nothing ends twice."""

import asyncio
import shutil
import signal
import tempfile
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from app.errors import GenerationFailed
from app.settings import Settings
from tests.engine.adapter import make_adapter
from tests.fake_engine import FakeEngine, Script
from tests.live_server import LiveServer, running_server

ADMIN = {"authorization": "Bearer admin"}
SETTLE_SECONDS = 5
PIECES = ("a", "b", "c")

NAMES = st.sampled_from(["one", "two"])
MODELS = st.none() | NAMES
PATHS = st.sampled_from(["/chat", "/v1/chat/completions"])
FAILURES = st.sampled_from([None, GenerationFailed("The model gives up."), ValueError("a bug")])


class OpenStream:
    """A streamed reply of which the engine has said one piece, and how it will end."""

    def __init__(self, reply: httpx.Response, script: Script) -> None:
        self.reply = reply
        self.script = script

    async def rest(self) -> list[str]:
        """Every event of it, once the engine goes on."""
        assert self.script.pause is not None
        self.script.pause.set()
        async with asyncio.timeout(SETTLE_SECONDS):
            lines = [line async for line in self.reply.aiter_lines() if line]
        return [line.removeprefix("data: ") for line in lines]


class Server(RuleBasedStateMachine):
    """A live server on the fake engine, in a loop that runs only while a rule does."""

    def __init__(self) -> None:
        super().__init__()
        self.engine = FakeEngine()
        self.folder = Path(tempfile.mkdtemp())
        self.runner = asyncio.Runner()
        self.stack = AsyncExitStack()
        self.asked = 0
        self.open: list[OpenStream] = []
        self.is_draining = False

    @initialize()
    def start(self) -> None:
        adapters = self.folder / "adapters"
        for number, name in enumerate(("one", "two")):
            make_adapter(adapters / f"{name}-files", seed=number)
        options = Settings(
            port=0,
            model="fake/model",
            admin_keys=("admin",),
            adapter_dir=str(adapters),
            state_dir=str(self.folder / "state"),
            linger_seconds=3600,
            drain_seconds=3600,
        )
        running = running_server(options, self.engine)
        self.live: LiveServer = self.run(self.stack.enter_async_context(running))

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(work)

    def loaded(self, name: str | None) -> bool:
        return name is None or name in self.live.server.app.models.adapters

    def body(self, model: str | None, **fields: object) -> dict[str, object]:
        """A conversation that nobody has had before, so that it is answered anew."""
        self.asked += 1
        turns = [{"role": "user", "content": f"Question {self.asked}"}]
        return {"messages": turns, "model": model, **fields}

    def status(self, model: str | None, failure: object) -> int:
        """Of a reply that has to be whole before it begins."""
        if self.is_draining:
            return 503
        if not self.loaded(model):
            return 404
        return 500 if failure else 200

    @rule(path=PATHS, model=MODELS, failure=FAILURES)
    def chat(self, path: str, model: str | None, failure: Exception | None) -> None:
        status = self.status(model, failure)
        if status in (200, 500):
            self.engine.enqueue(Script(refusal=failure))
        reply = self.run(self.live.client.post(path, json=self.body(model)))
        assert reply.status_code == status, reply.text

    @rule(model=MODELS, failure=FAILURES)
    def batch(self, model: str | None, failure: Exception | None) -> None:
        """One of its prompts may fail, and then all do."""
        status = self.status(model, failure)
        if status in (200, 500):
            self.engine.enqueue(Script(), Script(refusal=failure), Script())
        body = self.body(model, prompts=[f"{self.asked}-{n}" for n in range(3)])
        del body["messages"]
        reply = self.run(self.live.client.post("/batch", json=body))
        assert reply.status_code == status, reply.text
        self.engine.scripts.clear()

    @rule(path=PATHS, model=MODELS, failure=FAILURES)
    def begin_stream(self, path: str, model: str | None, failure: Exception | None) -> None:
        self.run(self._begin_stream(path, model, failure))

    async def _begin_stream(self, path: str, model: str | None, failure: Exception | None) -> None:
        status = self.status(model, None)
        script = Script(PIECES, failure=failure, pause=asyncio.Event())
        if status == 200:
            self.engine.enqueue(script)
        client = self.live.client
        request = client.build_request("POST", path, json=self.body(model, stream=True))
        reply = await client.send(request, stream=True)
        assert reply.status_code == status
        if status == 200:
            self.open.append(OpenStream(reply, script))
        else:
            await reply.aclose()

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def finish_stream(self, data: st.DataObject) -> None:
        stream = self.chosen(data)
        events = self.run(stream.rest())
        assert_ended_once(events, is_failed=stream.script.failure is not None)

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def leave_stream(self, data: st.DataObject) -> None:
        """The client goes in the middle of the reply."""
        self.run(self.chosen(data).reply.aclose())

    def chosen(self, data: st.DataObject) -> OpenStream:
        return self.open.pop(data.draw(st.integers(0, len(self.open) - 1)))

    @rule(name=NAMES)
    def load_adapter(self, name: str) -> None:
        body = {"name": name, "folder": f"{name}-files"}
        reply = self.run(self.live.client.post("/v1/adapters", json=body, headers=ADMIN))
        assert reply.status_code == (503 if self.is_draining else 200), reply.text

    @rule(name=NAMES)
    def unload_adapter(self, name: str) -> None:
        """Also one that streams are using; they finish."""
        status = 503 if self.is_draining else 200 if self.loaded(name) else 404
        reply = self.run(self.live.client.delete(f"/v1/adapters/{name}", headers=ADMIN))
        assert reply.status_code == status, reply.text

    @precondition(lambda self: not self.is_draining)
    @rule()
    def drain(self) -> None:
        self.live.server.handle_exit(signal.SIGTERM, None)
        self.is_draining = True

    @invariant()
    def nothing_is_left(self) -> None:
        """As many requests and generations as there are open streams, and adapters for them."""
        if hasattr(self, "live"):
            self.run(until(lambda: self.in_flight == self.running == len(self.open)))
            self.run(until(lambda: self.num_retired <= len(self.open)))

    @property
    def in_flight(self) -> int:
        return self.live.server.app.admission.in_flight

    @property
    def running(self) -> int:
        return sum(not each.closed.is_set() for each in self.engine.submissions)

    @property
    def num_retired(self) -> int:
        """Adapters in the engine that no new request can name."""
        return len(self.engine.adapters) - len(list(self.live.server.app.models.adapters))

    def teardown(self) -> None:
        """A second signal ends what still runs; each stream is told so, once."""
        try:
            if hasattr(self, "live"):
                self.run(self._stop())
        finally:
            self.runner.close()
            shutil.rmtree(self.folder)

    async def _stop(self) -> None:
        for _ in range(1 + (not self.is_draining)):
            self.live.server.handle_exit(signal.SIGTERM, None)
        for stream in self.open:
            async with asyncio.timeout(SETTLE_SECONDS):
                lines = [line async for line in stream.reply.aiter_lines() if line]
            assert_ended_once([line.removeprefix("data: ") for line in lines], is_failed=True)
        await self.stack.aclose()


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(SETTLE_SECONDS):
        while not is_so():
            await asyncio.sleep(0)


def assert_ended_once(events: list[str], *, is_failed: bool) -> None:
    """By `[DONE]` or by one error, and by nothing else before."""
    ends = [event for event in events if event == "[DONE]" or event.startswith('{"error"')]
    assert ends == events[-1:]
    assert (events[-1] != "[DONE]") == is_failed


def test_any_order_leaves_nothing_and_ends_everything_once() -> None:
    """Each of its examples is dozens of requests, so there are fewer of them than elsewhere."""
    examples = settings(max_examples=settings.default.max_examples // 8)
    run_state_machine_as_test(Server, settings=examples)
