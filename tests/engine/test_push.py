"""What is given away past vLLM's outputs is what these would have said."""

import asyncio
import itertools
from collections.abc import Callable, Sequence
from contextlib import aclosing
from typing import Any

import msgspec
import pytest

from app.engine.base import ANYBODY, Engine, Origin, Output, RenderedPrompt, Sampling, Take
from app.errors import GenerationFailed
from tests.live_server import LiveServer
from tests.sse_client import events

pytestmark = pytest.mark.engine

WAIT_SECONDS = 30
QUESTIONS = ("Hello", "你好", "Tell me a long story", "Write fibonacci in Python", "\U0001f600?")
LONG = {"max_tokens": 2000, "ignore_eos": True}


@pytest.fixture
def engine(real_server: LiveServer) -> Engine:
    return real_server.server.app.engine


def never(_: str, __: Sequence[int]) -> bool:
    return False


class Heard(msgspec.Struct):
    """All of one stream, in the order in which it came."""

    texts: list[str] = []
    token_ids: list[int] = []
    finish_reason: str | None = None
    num_taken: int = 0

    def take(self, text: str, token_ids: Sequence[int]) -> bool:
        self.texts.append(text)
        self.token_ids += token_ids
        self.num_taken += 1
        return True

    def add(self, output: Output) -> None:
        (completion,) = output.outputs
        self.texts.append(completion.text)
        self.token_ids += completion.token_ids
        self.finish_reason = completion.finish_reason

    @property
    def said(self) -> tuple[str, list[int], str | None]:
        return "".join(self.texts), self.token_ids, self.finish_reason


async def hear(
    engine: Engine,
    question: str,
    taking: Callable[[Heard], Take],
    origin: Origin = ANYBODY,
    **arguments: Any,
) -> Heard:
    """Read one stream to its end; `taking` makes what is offered its deltas."""
    turns = [{"role": "user", "content": question}]
    text = engine.tokenizer.render(turns, None, add_generation_prompt=True)
    prompt = RenderedPrompt(engine.tokenizer.encode(text, add_special_tokens=False))
    sampling = Sampling({"temperature": 0, "max_tokens": 120} | arguments, stream=True)
    heard = Heard()
    async with aclosing(await engine.submit(prompt, sampling, None, origin)) as generation:
        output = await anext(generation)
        while not output.finished:
            heard.add(output)
            output = await generation.pushed(taking(heard))
        heard.add(output)
        assert generation.num_tokens == len(heard.token_ids)
    return heard


def everything(heard: Heard) -> Take:
    return heard.take


def nothing(_: Heard) -> Take:
    return never


def every_third(heard: Heard) -> Take:
    """Refuses in between, as a reader does who is slow now and then."""

    def take(text: str, token_ids: Sequence[int]) -> bool:
        return len(heard.texts) % 3 != 0 and heard.take(text, token_ids)

    return take


async def all_heard(
    engine: Engine, taking: Callable[[Heard], Take], **arguments: Any
) -> list[Heard]:
    streams = (hear(engine, each, taking, **arguments) for each in QUESTIONS)
    return await asyncio.gather(*streams)


@pytest.mark.parametrize("taking", [everything, every_third])
@pytest.mark.parametrize("ends", ["stop", "length"])
async def test_streams_say_the_same_as_vllm_s_outputs(
    engine: Engine, taking: Callable[[Heard], Take], ends: str
) -> None:
    limits = {"max_tokens": 7} if ends == "length" else {}

    expected = await all_heard(engine, nothing, **limits)
    heard = await all_heard(engine, taking, **limits)

    assert [each.said for each in heard] == [each.said for each in expected]
    assert any(each.finish_reason == ends for each in heard)
    assert not any(each.num_taken for each in expected)
    if taking is everything:
        assert all(each.num_taken == len(each.token_ids) - 2 for each in heard)
    else:
        assert all(0 < each.num_taken < len(each.token_ids) - 2 for each in heard)


async def test_vllm_counts_what_is_given_away(real_server: LiveServer, engine: Engine) -> None:
    """Tokens, and the times between them."""
    names = (
        "generation_tokens_total",
        "inter_token_latency_seconds_count",
        "inter_token_latency_seconds_bucket",
    )
    counted = []
    for taking in (nothing, everything):
        before = [await metric(real_server, each) for each in names]
        await all_heard(engine, taking)
        after = [await metric(real_server, each) for each in names]
        counted.append([b - a for a, b in zip(before, after, strict=True)])

    assert counted[0][:2] == counted[1][:2]
    assert counted[0][0] - counted[0][1] == len(QUESTIONS)
    assert all(counted[1])


@pytest.mark.parametrize("arguments", [{"stop": ["zzz"]}, {"logprobs": 1}])
async def test_what_is_more_than_text_is_not_given_away(
    engine: Engine, arguments: dict[str, Any]
) -> None:
    [expected, *_] = await all_heard(engine, nothing)

    heard = await hear(engine, QUESTIONS[0], everything, **arguments)

    assert heard.num_taken == 0
    assert heard.said == expected.said


async def test_deltas_that_come_late_are_merged_where_that_is_wanted(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader who does nothing but read may still get each by itself, but always as outputs."""
    expected = await all_heard(engine, nothing)
    monkeypatch.setattr(engine._push, "_coalesce_seconds", 1e-9)

    heard = await all_heard(engine, everything)

    assert [each.said for each in heard] == [each.said for each in expected]
    assert not any(each.num_taken for each in heard)


async def test_a_loop_that_falls_behind_and_catches_up_keeps_the_order(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = itertools.count()
    monkeypatch.setattr(engine._push, "_is_behind", lambda _: next(calls) % 5 < 2)

    expected = await all_heard(engine, nothing)
    heard = await all_heard(engine, everything)

    assert [each.said for each in heard] == [each.said for each in expected]
    assert all(0 < each.num_taken < len(each.token_ids) - 2 for each in heard)


async def test_a_delta_that_cannot_be_delivered_ends_its_stream_and_no_other(
    engine: Engine,
) -> None:
    def failing(heard: Heard) -> Take:
        def take(text: str, token_ids: Sequence[int]) -> bool:
            if heard.num_taken == 5:
                raise RuntimeError("This stream is broken.")
            return heard.take(text, token_ids)

        return take

    expected = await all_heard(engine, nothing)
    broken = asyncio.create_task(hear(engine, "Hello", failing, **LONG))
    heard = await all_heard(engine, everything)

    with pytest.raises(GenerationFailed):
        await broken
    assert [each.said for each in heard] == [each.said for each in expected]
    assert engine.status == "ready"


@pytest.mark.parametrize("taking", [everything, nothing])
async def test_a_stream_that_is_left_is_aborted_and_counted(
    real_server: LiveServer, taking: Callable[[Heard], Take]
) -> None:
    engine = real_server.server.app.engine
    began, abandoned, heard = asyncio.Event(), [], []

    def noting(each: Heard) -> Take:
        heard.append(each)
        began.set()
        return taking(each)

    origin = Origin(abandon=abandoned.append)
    task = asyncio.create_task(hear(engine, "Hello", noting, origin, **LONG))
    await asyncio.wait_for(began.wait(), WAIT_SECONDS)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(abandoned) == 1
    processor = engine._llm.output_processor
    assert not processor.request_states
    async with asyncio.timeout(WAIT_SECONDS):
        while await metric(real_server, "num_requests_running"):
            await asyncio.sleep(0.05)


async def metric(live: LiveServer, name: str) -> float:
    """One of vLLM's own, over all its labels."""
    lines = (await live.client.get("/metrics")).text.splitlines()
    return sum(float(each.split()[-1]) for each in lines if each.startswith(f"vllm:{name}{{"))


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/chat"])
async def test_what_is_written_at_once_is_what_else_would_be_sent(
    real_server: LiveServer, path: str
) -> None:
    """Whoever asks for its answer to be remembered gets it through the recorder."""
    client, body = real_server.client, chat("Tell me a long story")
    pushed = await client.post(path, json=body)
    sent = await client.post(path, json=body, headers={"Idempotency-Key": f"push{path}"})

    assert told(pushed.text) == told(sent.text)
    assert pushed.text.endswith("data: [DONE]\n\n")
    assert pushed.text.count("data: ") > 20


def chat(question: str) -> dict[str, Any]:
    messages = [{"role": "user", "content": question}]
    return {"messages": messages, "temperature": 0, "stream": True, "max_tokens": 200}


def told(stream: str) -> tuple[str, Any]:
    """The text of a stream, and its last event without what each reply has of its own.

    How many events the text comes in is told by how fast it is read: deltas that wait are merged.
    """
    *parts, last = [each for each in events(stream) if each != "[DONE]"]
    texts = [each.get("delta") or each["choices"][0]["delta"].get("content", "") for each in parts]
    return "".join(texts), {n: each for n, each in last.items() if n not in ("id", "created")}
