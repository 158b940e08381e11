import asyncio
import re

import httpx
import pytest

from app.errors import EngineDead, GenerationFailed
from tests.fake_engine import FakeEngine, Script
from tests.sse_client import events, read_event

HELLO = [{"role": "user", "content": "Hello"}]


async def test_chat_answers_in_the_seed_shape(client: httpx.AsyncClient) -> None:
    reply = await client.post("/chat", json={"messages": HELLO, "temperature": 0.7})

    assert reply.status_code == 200
    assert reply.json() == {
        "response": "Hello, world!",
        "usage": {"prompt_tokens": 11, "completion_tokens": 4, "total_tokens": 15},
        "model": "model",
    }


async def test_parameters_reach_the_engine(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    body = {"messages": HELLO, "temperature": 0.3, "top_p": 0, "max_tokens": 7, "stop": ["x"]}

    await client.post("/chat", json=body)

    arguments = engine.asked.sampling.arguments
    assert arguments == {"temperature": 0.3, "top_p": 1e-9, "max_tokens": 7, "stop": ["x"]}


async def test_native_limit_defaults_to_512_and_is_cut_to_the_context(
    client: httpx.AsyncClient, engine: FakeEngine
) -> None:
    await client.post("/chat", json={"messages": HELLO})
    assert engine.asked.sampling.arguments["max_tokens"] == 512

    await client.post("/chat", json={"messages": HELLO, "max_tokens": 4096})
    assert engine.asked.sampling.arguments["max_tokens"] == 2048 - 11


@pytest.mark.parametrize("name", ["max_tokens", "max_new_tokens"])
async def test_both_spellings_of_the_limit_work(
    client: httpx.AsyncClient, engine: FakeEngine, name: str
) -> None:
    await client.post("/chat", json={"messages": HELLO, name: 9})

    assert engine.asked.sampling.arguments["max_tokens"] == 9


async def test_all_turns_are_rendered(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    messages = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": "c", "refusal": None},
        {"role": "tool", "content": "d", "tool_call_id": "1"},
    ]

    await client.post("/chat", json={"messages": messages})

    assert engine.asked.prompt == "system: Be brief.\nuser: a\nb\nassistant: c\ntool: d"


async def test_stream_sends_deltas_then_how_it_ended(client: httpx.AsyncClient) -> None:
    reply = await client.post("/chat", json={"messages": HELLO, "stream": True})

    assert reply.headers["content-type"].startswith("text/event-stream")
    assert events(reply.text) == [
        {"delta": "Hello"},
        {"delta": ", "},
        {"delta": "world"},
        {"delta": "!"},
        {
            "finish_reason": "stop",
            "usage": {"prompt_tokens": 11, "completion_tokens": 4, "total_tokens": 15},
            "model": "model",
        },
        "[DONE]",
    ]


async def test_first_event_comes_before_the_last_is_generated(
    client: httpx.AsyncClient, engine: FakeEngine
) -> None:
    pause = asyncio.Event()
    engine.enqueue(Script(pause=pause))

    async with client.stream("POST", "/chat", json={"messages": HELLO, "stream": True}) as reply:
        lines = reply.aiter_lines()
        assert await read_event(lines) == {"delta": "Hello"}
        pause.set()
        assert [line async for line in lines if line][-1] == "data: [DONE]"


async def test_late_failure_is_one_error_event_and_no_done(
    client: httpx.AsyncClient, engine: FakeEngine
) -> None:
    engine.enqueue(Script(pieces=["a"], failure=GenerationFailed("It broke.")))

    reply = await client.post("/chat", json={"messages": HELLO, "stream": True})

    assert events(reply.text) == [
        {"delta": "a"},
        {
            "error": {
                "message": "It broke.",
                "type": "server_error",
                "param": None,
                "code": "generation_failed",
            }
        },
    ]


async def test_unexpected_late_failure_tells_no_details(
    client: httpx.AsyncClient, engine: FakeEngine
) -> None:
    engine.enqueue(Script(pieces=["a"], failure=ValueError("/secret/path")))

    reply = await client.post("/chat", json={"messages": HELLO, "stream": True})

    assert "/secret/path" not in reply.text
    assert events(reply.text)[-1]["error"]["message"] == "The generation failed."


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("refusal", "status", "detail"),
    [
        (GenerationFailed("It broke."), 500, "It broke."),
        (EngineDead("The engine has died."), 503, "The engine has died."),
        (ValueError("/secret/path"), 500, "The server failed to answer this request."),
    ],
)
async def test_early_failure_has_its_status(
    client: httpx.AsyncClient,
    engine: FakeEngine,
    refusal: Exception,
    status: int,
    detail: str,
    stream: bool,
) -> None:
    engine.enqueue(Script(refusal=refusal))

    reply = await client.post("/chat", json={"messages": HELLO, "stream": stream})

    assert (reply.status_code, reply.json()) == (status, {"detail": detail})


async def test_adapter_is_chosen_by_model(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    reply = await client.post("/chat", json={"messages": HELLO, "model": "pirate"})

    assert reply.json()["model"] == "pirate"
    assert engine.asked.adapter is not None
    assert engine.asked.adapter.name.startswith("pirate@")


async def test_alias_is_answered_under_the_model_name(client: httpx.AsyncClient) -> None:
    reply = await client.post("/chat", json={"messages": HELLO, "model": "default-model"})

    assert reply.json()["model"] == "model"


async def test_prompt_gets_the_default_system_prompt(
    client: httpx.AsyncClient, engine: FakeEngine
) -> None:
    reply = await client.post("/", json={"prompt": "你好"})

    body = reply.json()
    assert engine.asked.prompt == "system: You are a helpful assistant.\nuser: 你好"
    assert set(body) == {"response", "status", "time"}
    assert (body["response"], body["status"]) == ("Hello, world!", 200)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", body["time"])


async def test_history_is_taken_along_and_given_back(
    client: httpx.AsyncClient, engine: FakeEngine
) -> None:
    history = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]

    reply = await client.post("/", json={"prompt": "c", "history": history})

    assert engine.asked.prompt == "user: a\nassistant: b\nuser: c"
    assert [(turn["role"], turn["content"]) for turn in reply.json()["history"]] == [
        ("user", "a"),
        ("assistant", "b"),
        ("user", "c"),
        ("assistant", "Hello, world!"),
    ]


async def test_history_given_back_can_be_sent_again(client: httpx.AsyncClient) -> None:
    first = await client.post("/", json={"prompt": "a", "history": []})
    again = await client.post("/", json={"prompt": "b", "history": first.json()["history"]})

    assert len(again.json()["history"]) == 4
