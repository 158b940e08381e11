"""Row X2: the same events, however their bytes arrive and whatever they say."""

import codecs
import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import httpx
import msgspec
from httpx_sse._decoders import SSEDecoder, SSELineDecoder
from hypothesis import given, settings
from hypothesis import strategies as st
from openai._streaming import SSEDecoder as OpenAIDecoder

from app.replies.frames import DONE, frame
from schemas.chat import Delta
from tests.fake_engine import FakeEngine, Script

HELLO = [{"role": "user", "content": "Hello"}]

NASTY = [
    "\n",
    "\r\n",
    "\r",
    "\u2028\u2029\x85",
    "data: [DONE]\n\n",
    "event: x",
    "\0",
    "：你好 🎉",
    ": ",
]
"""Where a decoder of lines could go wrong, and texts of several bytes a character."""

TEXTS = st.lists(st.text() | st.sampled_from(NASTY), max_size=8)


@given(texts=TEXTS, sizes=st.lists(st.integers(1, 64), min_size=1))
@settings(max_examples=200, derandomize=True)
def test_x2_events_are_the_same_however_their_bytes_arrive(
    texts: list[str], sizes: list[int]
) -> None:
    sent = b"".join(frame(encoded(text)) for text in texts) + DONE
    expected = [*texts, None]

    for chunks in (cut(sent, sizes), *([sent[:at], sent[at:]] for at in range(len(sent)))):
        assert texts_of(openai_events(chunks)) == expected
        assert texts_of(httpx_sse_events(chunks)) == expected


async def test_x2_nasty_texts_arrive_as_they_were_said(
    client: httpx.AsyncClient, engine: FakeEngine
) -> None:
    for path, body in (("/chat", {}), ("/v1/chat/completions", {"model": "model"})):
        engine.enqueue(Script(pieces=NASTY))

        reply = await client.post(path, json={"messages": HELLO, "stream": True, **body})

        said = "".join(text for text in texts_of(openai_events([reply.content])) if text)
        assert said == "".join(NASTY)


def encoded(text: str) -> bytes:
    return msgspec.json.encode(Delta(delta=text))


def cut(sent: bytes, sizes: list[int]) -> list[bytes]:
    """The same bytes in pieces of these sizes, over and over."""
    chunks = []
    for size in itertools.cycle(sizes):
        if not sent:
            return chunks
        chunks.append(sent[:size])
        sent = sent[size:]
    raise AssertionError("the cycle never ends")


def openai_events(chunks: Iterable[bytes]) -> Iterator[str]:
    """As the official client reads them."""
    for event in OpenAIDecoder().iter_bytes(iter(chunks)):
        yield event.data


def httpx_sse_events(chunks: Iterable[bytes]) -> Iterator[str]:
    """As httpx-sse reads them, whose text comes decoded from httpx."""
    text = codecs.getincrementaldecoder("utf-8")()
    lines, events = SSELineDecoder(), SSEDecoder()
    for chunk in chunks:
        for line in lines.decode(decoded) if (decoded := text.decode(chunk)) else ():
            event = events.decode(line)
            if event is not None:
                yield event.data


def texts_of(events: Iterable[str]) -> list[str | None]:
    """What each event adds; None for the end of the stream and for events that add none."""
    return [None if data == "[DONE]" else text_of(msgspec.json.decode(data)) for data in events]


def text_of(event: dict[str, Any]) -> str | None:
    if "choices" in event:
        text: str | None = event["choices"][0]["delta"].get("content")
        return text
    return event.get("delta")
