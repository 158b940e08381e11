"""Pictures in conversations: taken from wherever they may be, in their order, or refused."""

import base64
import io
from typing import Any

import httpx
import pytest
from msgspec.structs import replace
from PIL import Image

from app.engine.base import Limits
from app.images.loader import DECODING_PROMPTS
from tests.fake_engine import FakeEngine

SEEING = Limits(2048, 256, 1, reads_images=True, image_token_id=0)
DATA_ROUTES = ["/chat", "/v1/chat/completions", "/generate"]


def data_url(colour: str, size: tuple[int, int] = (4, 4)) -> str:
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def picture(url: str, **fields: Any) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url, **fields}}


def text(words: str) -> dict[str, str]:
    return {"type": "text", "text": words}


def user(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": list(parts)}]}


def colours(engine: FakeEngine) -> list[tuple[int, int, int]]:
    return [image.getpixel((0, 0)) for image in engine.asked.pictures]


@pytest.fixture
def seeing(engine: FakeEngine) -> FakeEngine:
    engine.limits = SEEING
    return engine


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("route", DATA_ROUTES)
async def test_pictures_stand_where_they_were_sent(
    client: httpx.AsyncClient, seeing: FakeEngine, route: str, stream: bool
) -> None:
    body = user(text("first"), picture(data_url("red")), text("then"), picture(data_url("blue")))

    reply = await client.post(route, json={**body, "stream": stream})

    assert reply.status_code == 200
    assert seeing.asked.prompt == "user: first\x00then\x00"
    assert colours(seeing) == [(255, 0, 0), (0, 0, 255)]


async def test_pictures_of_earlier_turns_are_still_seen(
    client: httpx.AsyncClient, seeing: FakeEngine
) -> None:
    turns = [
        {"role": "user", "content": [picture(data_url("red")), text("What?")]},
        {"role": "assistant", "content": "Red."},
        {"role": "user", "content": [text("And this?"), picture(data_url("lime"))]},
    ]

    await client.post("/v1/chat/completions", json={"messages": turns})

    assert seeing.asked.prompt == "user: \x00What?\nassistant: Red.\nuser: And this?\x00"
    assert colours(seeing) == [(255, 0, 0), (0, 255, 0)]


async def test_items_of_a_batch_have_pictures_of_their_own(
    client: httpx.AsyncClient, seeing: FakeEngine
) -> None:
    prompts = ["plain", [picture(data_url("red")), text("What?")], [picture(data_url("blue"))]]

    reply = await client.post("/batch", json={"prompts": prompts})

    assert reply.status_code == 200
    seen = {each.prompt: len(each.pictures) for each in seeing.submissions}
    assert seen == {"user: plain": 0, "user: \x00What?": 1, "user: \x00": 1}


async def test_a_batch_has_a_limit_on_all_its_pictures(
    client: httpx.AsyncClient, seeing: FakeEngine
) -> None:
    prompts = [[picture(data_url("red"))] * 8] * 9

    reply = await client.post("/batch", json={"prompts": prompts})

    assert (reply.status_code, "at most 64 pictures in all, got 72" in reply.text) == (422, True)
    assert not seeing.submissions


async def test_few_prompts_have_their_pictures_in_memory_at_once(
    client: httpx.AsyncClient, seeing: FakeEngine
) -> None:
    prompts = [[picture(data_url("red"))]] * 32

    reply = await client.post("/batch", json={"prompts": prompts})

    assert reply.status_code == 200
    assert 1 <= seeing.most_illustrated_at_once <= DECODING_PROMPTS


@pytest.mark.parametrize(("detail", "edge"), [("low", 512), ("high", 2048), ("auto", 2048)])
async def test_detail_decides_how_large_a_picture_stays(
    client: httpx.AsyncClient, seeing: FakeEngine, detail: str, edge: int
) -> None:
    await client.post("/chat", json=user(picture(data_url("red", (4096, 1024)), detail=detail)))

    assert seeing.asked.pictures[0].size == (edge, edge // 4)


@pytest.mark.parametrize("route", ["/chat", "/v1/chat/completions", "/batch"])
async def test_a_text_model_says_that_it_reads_no_pictures(
    client: httpx.AsyncClient, engine: FakeEngine, route: str
) -> None:
    parts = [picture(data_url("red"))]
    body = {"prompts": [parts]} if route == "/batch" else user(*parts)

    reply = await client.post(route, json=body)

    assert reply.status_code == (400 if route.startswith("/v1") else 422)
    assert "this model reads text only" in reply.text
    assert not engine.submissions


@pytest.mark.parametrize("count", [1, 10_000])
async def test_a_text_that_spells_out_a_pictures_place_is_refused(
    client: httpx.AsyncClient, seeing: FakeEngine, count: int
) -> None:
    seeing.limits = replace(SEEING, max_model_len=100_000)
    for body in (user(text("\x00" * count)), user(text("\x00"), picture(data_url("red")))):
        reply = await client.post("/v1/chat/completions", json=body)
        assert (reply.status_code, reply.json()["error"]["param"]) == (400, "messages")
    for prompt in ("\x00", [0]):
        reply = await client.post("/v1/completions", json={"prompt": prompt})
        assert (reply.status_code, reply.json()["error"]["param"]) == (400, "prompt")
    assert not seeing.submissions


async def test_the_mark_for_pictures_means_nothing_in_a_text(
    client: httpx.AsyncClient, seeing: FakeEngine
) -> None:
    body = {"messages": [{"role": "user", "content": "a\ufdd0b"}]}

    assert (await client.post("/chat", json=body)).status_code == 200
    assert seeing.asked.prompt == "user: ab"


async def test_illustrated_prompts_must_fit_the_context(
    client: httpx.AsyncClient, seeing: FakeEngine
) -> None:
    seeing.tokens_per_image = 5000

    reply = await client.post("/v1/chat/completions", json=user(picture(data_url("red"))))

    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "context_length_exceeded")
    assert not seeing.submissions


async def test_tokens_of_pictures_are_counted(
    client: httpx.AsyncClient, seeing: FakeEngine
) -> None:
    seeing.tokens_per_image = 64
    body = user(picture(data_url("red")))

    usage = (await client.post("/v1/chat/completions", json=body)).json()["usage"]
    tokens = (await client.post("/tokenize", json=body)).json()["count"]

    assert usage["prompt_tokens"] == tokens == len("user: ") + 64


@pytest.mark.parametrize("route", ["/chat", "/v1/chat/completions", "/batch"])
@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:1/a.png",
        "http://localhost./a.png",
        "file:///etc/passwd",
        "ftp://example.com/a.png",
        "gopher://example.com/",
        "",
        "data:image/png,abc",
        "data:image/png;base64,",
    ],
)
async def test_bad_urls_are_refused_alike_on_every_route(
    client: httpx.AsyncClient, seeing: FakeEngine, route: str, url: str
) -> None:
    parts = [picture(url)]
    body = {"prompts": ["good", parts]} if route == "/batch" else user(*parts)

    reply = await client.post(route, json=body)

    assert reply.status_code == (400 if route.startswith("/v1") else 422)
    assert not seeing.submissions


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "x"}, "uuid": "shared"},
        {"type": "image_embeds", "image_embeds": "AAAA"},
        {"type": "video_url", "video_url": {"url": "data:video/jpeg;base64,a"}},
        {"type": "input_audio", "input_audio": {"data": "", "format": "wav"}},
        {"type": "image_url", "image_url": {"url": "x", "detail": "huge"}},
    ],
)
async def test_nothing_but_pictures_and_no_names_for_them(
    client: httpx.AsyncClient, seeing: FakeEngine, part: dict[str, Any]
) -> None:
    reply = await client.post("/v1/chat/completions", json=user(part))

    assert reply.status_code == 400
