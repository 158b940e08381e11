"""Pictures through the whole server, judged by the official client on the demo vision model."""

import asyncio
import base64
import io
from collections.abc import AsyncIterator
from random import Random
from typing import Any

import openai
import pytest
import pytest_asyncio
from PIL import Image

from app.demo.vision.drawing import Subject, any_size, any_subject, draw
from tests.live_server import LiveServer

pytestmark = pytest.mark.engine

MODEL = "slipstream-demo-vision"
QUESTION = "What is in the picture?"
UNSEEN_SEED = 20_261_121
NUM_PICTURES = 200
LEAST_RIGHT = 0.95
AT_ONCE = 16


@pytest_asyncio.fixture(loop_scope="session")
async def sdk(vision_server: LiveServer) -> AsyncIterator[openai.AsyncOpenAI]:
    url = f"{vision_server.url}/v1"
    async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:
        yield client


def encoded(picture: Image.Image, kind: str = "PNG", **options: Any) -> dict[str, Any]:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    data = base64.b64encode(file.getvalue()).decode()
    url = f"data:image/{kind.lower()};base64,{data}"
    return {"type": "image_url", "image_url": {"url": url}}


def drawn(random: Random, subject: Subject) -> Image.Image:
    return draw(random, *subject, any_size(random))


async def ask(sdk: openai.AsyncOpenAI, *parts: dict[str, Any] | str, **fields: Any) -> str:
    content = [{"type": "text", "text": p} if isinstance(p, str) else p for p in parts]
    reply = await sdk.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": content}],  # type: ignore[misc, list-item]
        temperature=0,
        max_tokens=40,
        **fields,
    )
    return reply.choices[0].message.content or ""


def names(answer: str, subject: Subject) -> bool:
    return subject.colour in answer and subject.shape in answer


async def test_colour_and_shape_of_unseen_pictures_are_named(sdk: openai.AsyncOpenAI) -> None:
    random, places = Random(UNSEEN_SEED), asyncio.Semaphore(AT_ONCE)
    subjects = [any_subject(random) for _ in range(NUM_PICTURES)]
    pictures = [
        encoded(drawn(random, each), ("PNG", "JPEG")[i % 2]) for i, each in enumerate(subjects)
    ]

    async def is_right(picture: dict[str, Any], subject: Subject) -> bool:
        async with places:
            return names(await ask(sdk, picture, QUESTION), subject)

    right = await asyncio.gather(*map(is_right, pictures, subjects))

    assert sum(right) >= LEAST_RIGHT * NUM_PICTURES, f"{sum(right)} of {NUM_PICTURES}"


async def test_two_pictures_in_one_message_are_told_apart(sdk: openai.AsyncOpenAI) -> None:
    random = Random(UNSEEN_SEED + 1)
    red, blue = Subject("red", "circle"), Subject("blue", "square")
    pictures = {each: encoded(drawn(random, each)) for each in (red, blue)}

    for first, second in ((red, blue), (blue, red)):
        answer = await ask(sdk, pictures[first], pictures[second], "What is in the pictures?")
        before, after = answer[: len(answer) // 2], answer[len(answer) // 2 :]
        assert names(before, first), answer
        assert names(after, second), answer


async def test_pictures_are_streamed_about_and_asked_for_in_batches(
    vision_server: LiveServer,
) -> None:
    random, subject = Random(UNSEEN_SEED + 2), Subject("green", "star")
    parts = [encoded(drawn(random, subject)), {"type": "text", "text": QUESTION}]
    body = {"temperature": 0, "max_tokens": 40}

    streamed = await vision_server.client.post(
        "/chat", json={**body, "messages": [{"role": "user", "content": parts}], "stream": True}
    )
    batch = await vision_server.client.post("/batch", json={**body, "prompts": [parts, parts]})

    assert names(streamed.text.replace('"}\n\ndata: {"delta":"', ""), subject), streamed.text
    assert all(names(result, subject) for result in batch.json()["results"]), batch.text


async def test_twin_pictures_of_other_proportions_are_not_confused(
    sdk: openai.AsyncOpenAI,
) -> None:
    """The same bytes in another shape, also after a request that was refused once prepared."""
    red, blue = (255, 0, 0), (0, 0, 255)
    pixels = b"".join(bytes(red if i < 1500 else blue) for i in range(3000))
    wide = Image.frombytes("RGB", (100, 30), pixels)
    tall = Image.frombytes("RGB", (30, 100), pixels)
    too_long = "word " * 3000
    with pytest.raises(openai.BadRequestError):
        await ask(sdk, encoded(wide), too_long)

    tokens = [await prompt_tokens(sdk, each) for each in (wide, tall, wide)]

    assert tokens[0] == tokens[2]
    assert await ask(sdk, encoded(wide), QUESTION)


async def prompt_tokens(sdk: openai.AsyncOpenAI, picture: Image.Image) -> int:
    reply = await sdk.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": [encoded(picture)]}],  # type: ignore[list-item, misc]
        max_tokens=1,
    )
    assert reply.usage is not None
    return reply.usage.prompt_tokens


@pytest.mark.parametrize("size", [(1, 1), (1, 150), (150, 1), (3000, 2000)])
async def test_odd_sizes_are_answered_or_refused(
    sdk: openai.AsyncOpenAI, size: tuple[int, int]
) -> None:
    assert await ask(sdk, encoded(Image.new("RGB", size, "red")), QUESTION)


@pytest.mark.parametrize("text", ["<image>", "<image>" * 10_000, "<fake_token_around_image>"])
async def test_texts_that_spell_out_pictures_leave_the_engine_alive(
    sdk: openai.AsyncOpenAI, vision_server: LiveServer, text: str
) -> None:
    try:
        await ask(sdk, text)
    except openai.BadRequestError as error:
        assert "0x" not in error.message

    assert await ask(sdk, encoded(Image.new("RGB", (64, 64), "red")), QUESTION)
    assert vision_server.server.app.engine.status == "ready"


async def test_a_text_alone_is_answered(sdk: openai.AsyncOpenAI) -> None:
    assert "picture" in (await ask(sdk, "What is in the picture?")).lower()
