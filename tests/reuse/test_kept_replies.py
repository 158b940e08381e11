"""Replies that are kept, in memory and in a real Redis, through the HTTP door."""

import asyncio
from typing import Any

import httpx
import pytest
from msgspec.structs import replace

from app.errors import GenerationFailed
from app.reuse.outputs import TOKENS_PER_DELTA
from tests.fake_engine import FakeEngine, Script
from tests.live_server import LiveServer
from tests.routes.test_pictures import data_url, picture, text, user
from tests.sse_client import events

LONG = [f"{number} " for number in range(3 * TOKENS_PER_DELTA + 1)]


def chat(words: str, **fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": words}], "temperature": 0, **fields}


async def ask(live: LiveServer, path: str, body: Any, **headers: str) -> httpx.Response:
    """The reply, once what is to be kept of it is."""
    reply = await live.client.post(path, json=body, headers=headers)
    await live.server.app.litestar.state.stores.settle()
    return reply


def without_identity(reply: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in reply.items() if name not in ("id", "created")}


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/chat", {}),
        ("/v1/chat/completions", {}),
        ("/v1/chat/completions", {"n": 2}),
        ("/v1/chat/completions", {"logprobs": True, "top_logprobs": 2}),
        ("/v1/chat/completions", {"temperature": 1, "seed": -1}),
    ],
)
async def test_a_reply_comes_again_as_it_was(
    keeper: LiveServer, engine: FakeEngine, words: str, path: str, fields: dict[str, Any]
) -> None:
    engine.enqueue(Script(choices=[LONG, ["b"]] if fields.get("n") else None, pieces=LONG))
    first = await ask(keeper, path, chat(words, **fields))
    second = await ask(keeper, path, chat(words, **fields))

    assert [each.headers["x-cache"] for each in (first, second)] == ["miss", "hit"]
    assert without_identity(second.json()) == without_identity(first.json())
    assert len(engine.submissions) == 1


@pytest.mark.parametrize("fields", [{}, {"logprobs": True, "top_logprobs": 1}, {"n": 2}])
async def test_streams_and_whole_replies_are_one_in_the_store(
    keeper: LiveServer, engine: FakeEngine, words: str, fields: dict[str, Any]
) -> None:
    engine.enqueue(*[Script(choices=[LONG, ["b"]] if "n" in fields else None, pieces=LONG)] * 2)
    path, usage = "/v1/chat/completions", {"stream_options": {"include_usage": True}}
    streamed = chat(words, stream=True, **usage, **fields)
    whole = await ask(keeper, path, chat(words, **fields))
    replayed = await ask(keeper, path, streamed)
    streamed_first = await ask(keeper, path, streamed, **{"cache-control": "no-cache"})
    whole_after = await ask(keeper, path, chat(words, **fields))

    sources = [each.headers["x-cache"] for each in (whole, replayed, streamed_first, whole_after)]
    assert sources == ["miss", "hit", "miss", "hit"]
    assert put_together(replayed.text) == put_together(streamed_first.text)
    assert without_identity(whole_after.json()) == without_identity(whole.json())
    texts = [each["message"]["content"] for each in whole.json()["choices"]]
    assert [each["text"] for each in put_together(replayed.text)["choices"].values()] == texts
    assert len(events(replayed.text)) > len(LONG) // TOKENS_PER_DELTA, "not all in one event"


def put_together(stream: str) -> dict[str, Any]:
    """Texts, logprobs, ends and usage of a chat stream."""
    *chunks, usage, done = events(stream)
    assert done == "[DONE]"
    choices: dict[int, dict[str, Any]] = {}
    for choice in (each for chunk in chunks for each in chunk["choices"]):
        seen = choices.setdefault(choice["index"], {"text": "", "logprobs": [], "end": None})
        seen["text"] += choice["delta"].get("content") or ""
        seen["logprobs"] += (choice.get("logprobs") or {}).get("content", [])
        seen["end"] = choice["finish_reason"] or seen["end"]
    return {"choices": dict(sorted(choices.items())), "usage": usage["usage"]}


async def test_prompts_of_a_batch_are_kept_one_by_one(
    keeper: LiveServer, engine: FakeEngine, words: str
) -> None:
    first = await ask(keeper, "/batch", {"prompts": [words], "temperature": 0})
    body = {"prompts": [words, words + "!"], "temperature": 0}
    second = await ask(keeper, "/batch", body)
    third = await ask(keeper, "/batch", body)
    streamed = await ask(keeper, "/batch", body | {"stream": True})

    assert [each.headers["x-cache"] for each in (first, second, third)] == ["miss", "miss", "hit"]
    assert len(engine.submissions) == 2
    assert third.json() == second.json()
    results = [each["result"] for each in events(streamed.text) if "result" in each]
    assert results == second.json()["results"]


async def test_calls_of_tools_are_kept(keeper: LiveServer, engine: FakeEngine, words: str) -> None:
    call = '<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>'
    engine.enqueue(Script(pieces=list(call)))
    tools = [{"type": "function", "function": {"name": "f"}}]
    replies = [
        await ask(keeper, "/v1/chat/completions", chat(words, tools=tools)) for _ in range(2)
    ]

    names = [each.json()["choices"][0]["message"]["tool_calls"][0]["function"] for each in replies]
    assert names[0] == names[1] == {"name": "f", "arguments": "{}"}
    assert replies[1].headers["x-cache"] == "hit"
    assert len(engine.submissions) == 1


async def test_many_at_once_look_for_it_once_and_hit(
    keeper: LiveServer, engine: FakeEngine, words: str
) -> None:
    await ask(keeper, "/chat", chat(words))
    replies = await asyncio.gather(*(ask(keeper, "/chat", chat(words)) for _ in range(32)))

    assert {each.headers["x-cache"] for each in replies} == {"hit"}
    assert len(engine.submissions) == 1


async def test_no_cache_computes_anew_and_keeps_it(
    keeper: LiveServer, engine: FakeEngine, words: str
) -> None:
    engine.enqueue(Script(pieces=["old"]), Script(pieces=["new"]))
    await ask(keeper, "/chat", chat(words))
    fresh = await ask(keeper, "/chat", chat(words), **{"cache-control": "Max-Age=0, no-cache"})
    after = await ask(keeper, "/chat", chat(words))

    assert [each.json()["response"] for each in (fresh, after)] == ["new", "new"]
    assert [each.headers["x-cache"] for each in (fresh, after)] == ["miss", "hit"]


async def test_no_store_keeps_nothing(keeper: LiveServer, engine: FakeEngine, words: str) -> None:
    private = await ask(keeper, "/chat", chat(words), **{"cache-control": "no-store"})
    after = await ask(keeper, "/chat", chat(words))

    assert "x-cache" not in private.headers
    assert after.headers["x-cache"] == "miss"


async def test_what_is_sampled_is_not_kept(
    keeper: LiveServer, engine: FakeEngine, words: str
) -> None:
    for _ in range(2):
        reply = await ask(keeper, "/chat", chat(words, temperature=0.1))
        assert "x-cache" not in reply.headers
    assert len(engine.submissions) == 2


@pytest.mark.parametrize("stream", [False, True])
async def test_failures_are_not_kept(
    keeper: LiveServer, engine: FakeEngine, words: str, stream: bool
) -> None:
    failure = GenerationFailed("no")
    engine.enqueue(Script(failure=failure) if stream else Script(refusal=failure))
    await ask(keeper, "/chat", chat(words, stream=stream))
    after = await ask(keeper, "/chat", chat(words, stream=stream))

    assert after.headers["x-cache"] == "miss"
    assert "world" in after.text


async def test_what_was_not_read_to_its_end_is_not_kept(
    keeper: LiveServer, engine: FakeEngine, words: str
) -> None:
    engine.enqueue(Script(pause=asyncio.Event()))
    async with keeper.client.stream("POST", "/chat", json=chat(words, stream=True)) as left:
        assert left.headers["x-cache"] == "miss"
    await asyncio.wait_for(engine.asked.closed.wait(), 5)

    assert (await ask(keeper, "/chat", chat(words))).headers["x-cache"] == "miss"


async def test_a_reply_over_the_limit_is_not_kept(
    keeper: LiveServer, engine: FakeEngine, words: str
) -> None:
    engine.enqueue(*[Script(pieces=["x" * 40_000])] * 2)
    for _ in range(2):
        assert (await ask(keeper, "/chat", chat(words))).headers["x-cache"] == "miss"


async def test_pictures_are_told_apart_by_what_they_show(
    keeper: LiveServer, engine: FakeEngine, words: str
) -> None:
    engine.limits = replace(engine.limits, reads_images=True, image_token_id=0)
    sources = []
    for colour in ("red", "blue", "red"):
        body = user(text(words), picture(data_url(colour))) | {"temperature": 0}
        sources.append((await ask(keeper, "/chat", body)).headers["x-cache"])

    assert sources == ["miss", "miss", "hit"]


async def test_the_source_of_generations_is_counted(
    keeper: LiveServer, engine: FakeEngine, words: str
) -> None:
    def count(metrics: str) -> dict[str, float]:
        name = "slipstream_repeatable_generations_total"
        lines = [line for line in metrics.splitlines() if line.startswith(name)]
        return {line.split('"')[1]: float(line.split()[-1]) for line in lines}

    before = count((await keeper.client.get("/metrics")).text)
    for _ in range(3):
        await ask(keeper, "/chat", chat(words))
    after = count((await keeper.client.get("/metrics")).text)

    assert after["miss"] - before.get("miss", 0) == 1
    assert after["hit"] - before.get("hit", 0) == 2
