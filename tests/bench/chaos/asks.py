"""The kinds of requests that the load is made of, each asked as its clients ask it."""

import asyncio
import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import msgspec
import openai

from tests.bench.chaos.records import Broken, Record
from tests.images.pictures import data_url, plain

QUESTIONS = (
    "What is LoRA?",
    "你好",
    "Tell me a joke",
    "What is continuous batching?",
    "什么是AI？",
)
MODELS = ("pirate", "traditional", "swapped")
COLOURS = ("red", "green", "blue", "yellow")
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "maxLength": 12},
                "days": {"type": "integer"},
            },
            "required": ["city"],
        },
    },
}
STALLED_BUFFER_BYTES = 16384
PATIENCE_SECONDS = 300
"""Of every client: a request that takes longer than that has been forgotten."""


class Asker:
    """Clients of one server; what they ask is decided by the seed."""

    def __init__(self, url: str, key: str, generator: random.Random) -> None:
        self.generator = generator
        self.headers = {"authorization": f"Bearer {key}"}
        limits = httpx.Limits(max_connections=None)
        self.http = httpx.AsyncClient(
            base_url=url, headers=self.headers, timeout=PATIENCE_SECONDS, limits=limits
        )
        narrow = [(socket.SOL_SOCKET, socket.SO_RCVBUF, STALLED_BUFFER_BYTES)]
        transport = httpx.AsyncHTTPTransport(socket_options=narrow)
        self.narrow = httpx.AsyncClient(
            base_url=url, headers=self.headers, timeout=PATIENCE_SECONDS, transport=transport
        )
        self.sdk = openai.AsyncOpenAI(
            base_url=f"{url}/v1", api_key=key, max_retries=0, timeout=PATIENCE_SECONDS
        )

    async def aclose(self) -> None:
        await self.http.aclose()
        await self.narrow.aclose()
        await self.sdk.close()

    def turns(self) -> Any:
        """A conversation that hardly anybody has had before, so that no reply is kept of it."""
        question = self.generator.choice(QUESTIONS)
        return [{"role": "user", "content": f"{question} {self.generator.randrange(10**9)}"}]


Ask = Callable[[Asker, Record], Awaitable[None]]


def headers(record: Record) -> dict[str, str]:
    return {"x-request-id": record.id}


async def post(asker: Asker, record: Record, path: str, body: object) -> None:
    """A plain reply: its status decides, and an error has to say what it is."""
    reply = await asker.http.post(path, json=body, headers=headers(record))
    record.status = reply.status_code
    content = reply.json()
    if reply.status_code == 200:
        record.outcome = "answered"
        record.tokens = content.get("usage", {}).get("completion_tokens")
    else:
        record.detail = str(content["detail"] if "detail" in content else content["error"])
        record.outcome = "refused"


async def ask_chat(asker: Asker, record: Record) -> None:
    await post(asker, record, "/chat", {"messages": asker.turns(), "max_tokens": 64})


async def ask_batch(asker: Asker, record: Record) -> None:
    prompts = [turn["content"] for _ in range(8) for turn in asker.turns()]
    await post(asker, record, "/batch", {"prompts": prompts, "max_tokens": 32})


async def ask_adapter(asker: Asker, record: Record) -> None:
    """One of the adapters, of which one is swapped meanwhile."""
    body = {"messages": asker.turns(), "max_tokens": 32, "model": asker.generator.choice(MODELS)}
    await post(asker, record, "/v1/chat/completions", body)


async def ask_picture(asker: Asker, record: Record) -> None:
    url = data_url(plain(64, 64, asker.generator.choice(COLOURS)))
    parts = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "What?"}]
    body = {"messages": [{"role": "user", "content": parts}], "max_tokens": 16}
    await post(asker, record, "/chat", body)


async def ask_native_stream(asker: Asker, record: Record) -> None:
    body = {"messages": asker.turns(), "max_tokens": 128, "stream": True}
    async with asker.http.stream("POST", "/chat", json=body, headers=headers(record)) as reply:
        await read_stream(reply, record)


async def ask_stalled(asker: Asker, record: Record) -> None:
    """A reader who stops in the middle of a long reply, and goes on later."""
    fields = {"max_tokens": 1500, "ignore_eos": True, "stream": True}
    body = {"messages": asker.turns(), **fields}
    pause = asker.generator.uniform(5, 45)
    async with asker.narrow.stream("POST", "/chat", json=body, headers=headers(record)) as reply:
        await read_stream(reply, record, pause)


async def read_stream(reply: httpx.Response, record: Record, pause: float = 0) -> None:
    """To its end: `[DONE]`, or one error event. Raises Broken if it has neither."""
    record.status = reply.status_code
    if reply.status_code != 200:
        record.detail = (await reply.aread()).decode()
        record.outcome = "refused"
        return
    last = ""
    async for line in reply.aiter_lines():
        if not line:
            continue
        last = line.removeprefix("data: ")
        note_event(record, last)
        await asyncio.sleep(pause)
        pause = 0
    if record.outcome == "broken":
        raise Broken(f"the stream ends with {last[:80]!r}")


def note_event(record: Record, data: str) -> None:
    if data == "[DONE]":
        record.outcome = "answered"
        return
    event = msgspec.json.decode(data)
    if "error" in event:
        record.outcome, record.detail = "failed", str(event["error"])
    if usage := event.get("usage"):
        record.tokens = usage["completion_tokens"]


async def ask_stream(asker: Asker, record: Record) -> None:
    """With the official client, which raises the error event."""
    async with explained(record):
        stream = await asker.sdk.chat.completions.create(
            model="slipstream-demo",
            messages=asker.turns(),
            max_tokens=128,
            stream=True,
            stream_options={"include_usage": True},
            extra_headers=headers(record),
        )
        record.status = 200
        async for chunk in stream:
            if chunk.usage is not None:
                record.tokens = chunk.usage.completion_tokens
                record.outcome = "answered"


async def ask_tool(asker: Asker, record: Record) -> None:
    """A call, whose arguments have to be JSON with what is required in it."""
    async with explained(record):
        reply = await asker.sdk.chat.completions.create(
            model="slipstream-demo",
            messages=asker.turns(),
            max_tokens=256,
            tools=[WEATHER],
            tool_choice="required",
            extra_headers=headers(record),
        )
        record.status = 200
        for call in reply.choices[0].message.tool_calls or ():
            if call.type == "function":
                assert "city" in msgspec.json.decode(call.function.arguments)
        assert reply.usage is not None
        record.tokens, record.outcome = reply.usage.completion_tokens, "answered"


@asynccontextmanager
async def explained(record: Record) -> AsyncIterator[None]:
    """The official client's errors as outcomes; those of its connection are left to the caller."""
    try:
        yield
    except openai.APIStatusError as error:
        record.status, record.detail, record.outcome = error.status_code, str(error), "refused"
    except openai.APIConnectionError as error:
        raise Broken(f"{error} {error.__cause__!r}") from error
    except openai.APIError as error:
        record.detail, record.outcome = str(error), "failed"


TEXT_KINDS: dict[str, tuple[Ask, float]] = {
    "chat": (ask_chat, 5),
    "stream": (ask_stream, 6),
    "native stream": (ask_native_stream, 4),
    "tool": (ask_tool, 3),
    "adapter": (ask_adapter, 4),
    "batch": (ask_batch, 1),
    "stalled": (ask_stalled, 0.3),
}
"""What a model of text is asked, and how often of each other."""

VISION_KINDS: dict[str, tuple[Ask, float]] = {"picture": (ask_picture, 1)}
