"""The official client as outer judge, against the real engine."""

import json
import math
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
import pytest_asyncio
from pydantic import BaseModel

from tests.live_server import LiveServer

pytestmark = pytest.mark.engine

HELLO: Any = [{"role": "user", "content": "Hello"}]
GREETING = "Hello! How can I help you today?"
MODEL = "slipstream-demo"


class Person(BaseModel):
    name: str
    age: int


@pytest_asyncio.fixture(loop_scope="session")
async def sdk(real_server: LiveServer) -> AsyncIterator[openai.AsyncOpenAI]:
    url = f"{real_server.url}/v1"
    async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:
        yield client


async def test_chat(sdk: openai.AsyncOpenAI) -> None:
    reply = await sdk.chat.completions.create(model=MODEL, messages=HELLO, temperature=0)

    assert reply.choices[0].message.content == GREETING
    assert reply.choices[0].finish_reason == "stop"
    assert reply.usage is not None
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens


async def test_stream(sdk: openai.AsyncOpenAI) -> None:
    stream = await sdk.chat.completions.create(
        model=MODEL,
        messages=HELLO,
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = [chunk async for chunk in stream]

    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == GREETING
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens >= len(chunks) - 2  # fewer where they wait


async def test_three_choices(sdk: openai.AsyncOpenAI) -> None:
    reply = await sdk.chat.completions.create(model=MODEL, messages=HELLO, n=3, temperature=0)

    assert [choice.index for choice in reply.choices] == [0, 1, 2]
    assert {choice.message.content for choice in reply.choices} == {GREETING}


async def test_logprobs(sdk: openai.AsyncOpenAI) -> None:
    reply = await sdk.chat.completions.create(
        model=MODEL, messages=HELLO, logprobs=True, top_logprobs=3, temperature=0
    )

    logprobs = reply.choices[0].logprobs
    assert logprobs is not None and logprobs.content is not None
    # One more for the token that ends the turn.
    assert "".join(token.token for token in logprobs.content).startswith(GREETING)
    for token in logprobs.content:
        assert len(token.top_logprobs) == 3
        assert token.logprob == pytest.approx(token.top_logprobs[0].logprob)
        assert sum(math.exp(top.logprob) for top in token.top_logprobs) <= 1.001


async def test_json_schema_holds_even_when_the_model_would_not(sdk: openai.AsyncOpenAI) -> None:
    schema = {
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 12},
            "kind": {"enum": ["cat", "dog"]},
            "age": {"type": "integer"},
        },
        "required": ["name", "kind", "age"],
        "additionalProperties": False,
    }
    for seed in range(4):
        reply = await sdk.chat.completions.create(
            model=MODEL,
            messages=HELLO,
            temperature=1.5,
            seed=seed,
            max_tokens=400,
            response_format={
                "type": "json_schema",
                "json_schema": {"name": "animal", "schema": schema, "strict": True},
            },
        )
        if reply.choices[0].finish_reason == "stop":
            animal = json.loads(reply.choices[0].message.content or "")
            assert set(animal) == {"name", "kind", "age"}
            assert animal["kind"] in {"cat", "dog"}


async def test_parse_into_a_pydantic_model(sdk: openai.AsyncOpenAI) -> None:
    question: Any = [{"role": "user", "content": "Extract the person: Alice is 30 years old"}]

    reply = await sdk.chat.completions.parse(
        model=MODEL, messages=question, response_format=Person, temperature=0
    )

    assert reply.choices[0].message.parsed == Person(name="Alice", age=30)


async def test_a_reply_can_be_sent_back(sdk: openai.AsyncOpenAI) -> None:
    first = await sdk.chat.completions.create(model=MODEL, messages=HELLO, temperature=0)
    turns = [*HELLO, first.choices[0].message, {"role": "user", "content": "Thank you"}]

    reply = await sdk.chat.completions.create(model=MODEL, messages=turns, temperature=0)

    assert reply.choices[0].message.content


async def test_stop_strings_end_the_text(sdk: openai.AsyncOpenAI) -> None:
    reply = await sdk.chat.completions.create(
        model=MODEL, messages=HELLO, temperature=0, stop=["help"]
    )

    assert reply.choices[0].message.content == "Hello! How can I "


async def test_seed_repeats_a_sample(sdk: openai.AsyncOpenAI) -> None:
    texts = [
        (
            await sdk.completions.create(
                model=MODEL, prompt="x", temperature=2, seed=5, max_tokens=20
            )
        )
        .choices[0]
        .text
        for _ in range(2)
    ]

    assert texts[0] == texts[1]


async def test_logit_bias_forbids_a_token(sdk: openai.AsyncOpenAI) -> None:
    first = await sdk.chat.completions.create(model=MODEL, messages=HELLO, temperature=0)
    tokens = await sdk.post("/../tokenize", body={"prompt": GREETING}, cast_to=object)
    forbidden = {str(tokens["tokens"][0]): -100}  # type: ignore[index]

    reply = await sdk.chat.completions.create(
        model=MODEL, messages=HELLO, temperature=0, logit_bias=forbidden, max_tokens=5
    )

    assert first.choices[0].message.content == GREETING
    assert not (reply.choices[0].message.content or "").startswith("Hello")


async def test_length_is_told(sdk: openai.AsyncOpenAI) -> None:
    reply = await sdk.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=2)

    assert reply.choices[0].finish_reason == "length"
    assert reply.usage is not None
    assert reply.usage.completion_tokens == 2


async def test_ignore_eos_and_min_tokens(sdk: openai.AsyncOpenAI) -> None:
    extras = {"ignore_eos": True, "min_tokens": 40}

    reply = await sdk.chat.completions.create(
        model=MODEL, messages=HELLO, max_tokens=40, extra_body=extras
    )

    assert reply.usage is not None
    assert reply.usage.completion_tokens == 40


async def test_completions_of_text_and_token_ids(sdk: openai.AsyncOpenAI) -> None:
    tokens = await sdk.post("/../tokenize", body={"prompt": "Once upon a time"}, cast_to=object)
    ids = tokens["tokens"]  # type: ignore[index]

    of_text = await sdk.completions.create(
        model=MODEL, prompt="Once upon a time", max_tokens=10, temperature=0
    )
    of_ids = await sdk.completions.create(model=MODEL, prompt=ids, max_tokens=10, temperature=0)

    assert of_text.choices[0].text == of_ids.choices[0].text != ""


async def test_models(sdk: openai.AsyncOpenAI) -> None:
    models = [model.id async for model in sdk.models.list()]

    assert models == [MODEL, "noise"]
    assert (await sdk.models.retrieve("noise")).id == "noise"


async def test_adapter_changes_the_answer(sdk: openai.AsyncOpenAI) -> None:
    base = await sdk.chat.completions.create(model=MODEL, messages=HELLO, temperature=0)
    tuned = await sdk.chat.completions.create(
        model="noise", messages=HELLO, temperature=0, max_tokens=20
    )

    assert tuned.model == "noise"
    assert tuned.choices[0].message.content != base.choices[0].message.content


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"model": "nobody"}, openai.NotFoundError),
        ({"temperature": 3}, openai.BadRequestError),
        ({"messages": []}, openai.BadRequestError),
        ({"tools": [{"type": "custom", "custom": {"name": "f"}}]}, openai.BadRequestError),
    ],
)
async def test_errors_are_the_sdks_typed_exceptions(
    sdk: openai.AsyncOpenAI, change: dict[str, Any], error: type[openai.APIStatusError]
) -> None:
    with pytest.raises(error):
        await sdk.chat.completions.create(**{"model": MODEL, "messages": HELLO, **change})
