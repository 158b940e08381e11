"""Tools that run here: called, run, answered, and the model goes on."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio

from app.queueing.queue import TIER_LEAD_SECONDS
from app.settings import Settings
from tests.fake_engine import FakeEngine, Script
from tests.live_server import running_server
from tests.sse_client import events

PATH = "/v1/chat/completions"
ASK: dict[str, Any] = {
    "messages": [{"role": "user", "content": "Tidy the room."}],
    "run_tools": True,
}
STEPS = '{"tasks": [{"task": "Look", "description": "See what lies about."}]}'
CALL = f'<tool_call>\n{{"name": "decompose_task", "arguments": {STEPS}}}\n</tool_call>'
OTHER = '<tool_call>\n{"name": "get_time", "arguments": {}}\n</tool_call>'
CLOCK = {"type": "function", "function": {"name": "get_time"}}
DECOMPOSE = {"type": "function", "function": {"name": "decompose_task"}}
RESULT = "1. Look: See what lies about."


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def server() -> AsyncIterator[tuple[httpx.AsyncClient, FakeEngine]]:
    engine = FakeEngine()
    settings = Settings(
        port=0, model="fake/model", tools_module="app.tools.examples", tool_rounds=2
    )
    async with running_server(settings, engine) as live:
        yield live.client, engine


@pytest.fixture
def engine(server: tuple[httpx.AsyncClient, FakeEngine]) -> FakeEngine:
    server[1].reset()
    return server[1]


@pytest.fixture
def client(server: tuple[httpx.AsyncClient, FakeEngine]) -> httpx.AsyncClient:
    return server[0]


async def ask(client: httpx.AsyncClient, **fields: Any) -> dict[str, Any]:
    reply = await client.post(PATH, json={**ASK, **fields})
    assert reply.status_code == 200, reply.text
    return dict(reply.json())


async def test_a_request_that_has_begun_goes_on_before_others_begin(
    client: httpx.AsyncClient, engine: FakeEngine
) -> None:
    engine.enqueue(Script(["Let me see.\n", CALL]), Script(["All ", "planned."]))
    await ask(client)
    first, second = (each.origin.priority for each in engine.submissions)

    assert second <= first - TIER_LEAD_SECONDS / 2


async def test_a_called_tool_runs_and_the_model_goes_on(
    client: httpx.AsyncClient, engine: FakeEngine
) -> None:
    engine.enqueue(Script(["Let me see.\n", CALL]), Script(["All ", "planned."]))
    reply = await ask(client)

    (choice,) = reply["choices"]
    assert choice["message"]["content"] == "Let me see.All planned."
    assert choice["finish_reason"] == "stop"
    called, answered = reply["tool_turns"]
    assert called["tool_calls"][0]["function"] == {"name": "decompose_task", "arguments": STEPS}
    assert answered["content"] == RESULT
    assert answered["tool_call_id"] == called["tool_calls"][0]["id"]
    assert RESULT in engine.asked.prompt
    assert engine.submissions[0].closed.is_set()
    assert reply["usage"]["completion_tokens"] == 4


async def test_the_turns_can_be_sent_back(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    engine.enqueue(Script([CALL]), Script(["Done."]))
    turns = (await ask(client))["tool_turns"]
    await ask(client, messages=[*ASK["messages"], *turns])
    assert RESULT in engine.asked.prompt


async def test_a_stream_tells_of_each_round(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    engine.enqueue(Script(list(CALL)), Script(["All ", "planned."]))
    reply = await client.post(PATH, json={**ASK, "stream": True})
    *chunks, done = events(reply.text)

    assert done == "[DONE]"
    (round_,) = [chunk for chunk in chunks if "tool_turns" in chunk]
    assert round_["choices"] == []
    assert round_["tool_turns"][1]["content"] == RESULT
    deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
    assert "".join(delta.get("content", "") for delta in deltas) == "All planned."
    assert not any("tool_calls" in delta for delta in deltas)
    reasons = [choice["finish_reason"] for chunk in chunks for choice in chunk["choices"]]
    assert [reason for reason in reasons if reason] == ["stop"]


async def test_a_call_of_a_tool_that_is_not_ours_goes_to_the_client(
    client: httpx.AsyncClient, engine: FakeEngine
) -> None:
    engine.enqueue(Script([OTHER]))
    reply = await ask(client, tools=[CLOCK, DECOMPOSE])

    (choice,) = reply["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["tool_calls"][0]["function"]["name"] == "get_time"
    assert "tool_turns" not in reply


@pytest.mark.parametrize("stream", [False, True])
async def test_a_turn_that_was_cut_runs_nothing(
    client: httpx.AsyncClient, engine: FakeEngine, stream: bool
) -> None:
    engine.enqueue(Script([CALL, f"\n{CALL[:40]}"], finish_reason="length"))
    reply = await client.post(PATH, json={**ASK, "stream": stream})

    chunks = events(reply.text)[:-1] if stream else [reply.json()]
    assert chunks[-1]["choices"][0]["finish_reason"] == "length"
    assert "decompose_task" in reply.text
    assert "tool_turns" not in reply.text
    assert len(engine.submissions) == 1


async def test_behind_the_last_round_there_is_no_call(
    client: httpx.AsyncClient, engine: FakeEngine
) -> None:
    engine.enqueue(Script([CALL]), Script([CALL]), Script(["Enough."]))
    reply = await ask(client)

    assert reply["choices"][0]["message"]["content"] == "Enough."
    assert len(reply["tool_turns"]) == 4
    constraint = engine.asked.sampling.constraint
    assert constraint is not None
    assert not any(getattr(segment, "pattern", None) for segment in constraint.segments)


async def test_a_call_that_must_be_made_is_made_once(
    client: httpx.AsyncClient, engine: FakeEngine
) -> None:
    engine.enqueue(Script([CALL]), Script(["Done."]))
    await ask(client, tool_choice="required")
    first, second = (each.sampling.constraint for each in engine.submissions)
    assert not getattr(first.segments[0], "may_end", True)  # type: ignore[union-attr]
    assert getattr(second.segments[0], "may_end", False)  # type: ignore[union-attr]


async def test_the_native_route_answers_with_the_result(
    client: httpx.AsyncClient, engine: FakeEngine
) -> None:
    engine.enqueue(Script([CALL]), Script(["Done."]))
    body = {"messages": ASK["messages"], "run_tools": True}
    reply = (await client.post("/generate_with_function", json=body)).json()

    assert reply["content"] == "Done."
    assert [turn["role"] for turn in reply["tool_turns"]] == ["assistant", "tool"]
    assert json.loads(reply["tool_turns"][0]["tool_calls"][0]["function"]["arguments"])


@pytest.mark.parametrize(
    "fields",
    [{"n": 2}, {"tool_choice": "none"}, {"response_format": {"type": "json_object"}}],
)
async def test_what_cannot_run_is_refused(
    client: httpx.AsyncClient, engine: FakeEngine, fields: dict[str, Any]
) -> None:
    reply = await client.post(PATH, json={**ASK, **fields})
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] in ("run_tools", "response_format")
    assert not engine.submissions


async def test_a_server_without_tools_says_so(fake_server: Any) -> None:
    live, _ = fake_server
    reply = await live.client.post(PATH, json=ASK)
    assert reply.status_code == 400
    assert "LLM_TOOLS_MODULE" in reply.json()["error"]["message"]
