"""Before anything is timed: every server says what the engine says, whole and streamed."""

from collections.abc import Sequence

import httpx
import httpx_sse

from tests.bench.peers.peers import Server
from tests.bench.peers.workloads import KEY, WrongReply, chat_body

TOKENS = 64
PROMPTS = [
    "Hello",
    "Who are you?",
    "Tell me a short story about the sea.",
    "What is a prefix cache?",
    "你好，请介绍一下你自己。",
    "Write a haiku with an emoji 🙂 in it.",
    'Repeat: "quotes", \\backslashes\\ and\ttabs',
    "1, 2, 3, 4,",
]


def check_texts(server: Server, expected: Sequence[str]) -> None:
    """Asked one by one, so that every engine computes the same. Raises WrongReply."""
    for content, text in zip(PROMPTS, expected, strict=True):
        reply = server.ask(chat_body(content, TOKENS, stream=False))
        for said in (reply.json()["choices"][0]["message"]["content"], streamed(server, content)):
            if said != text:
                raise WrongReply(f"{server.name} says {said!r} to {content!r}, not {text!r}")


def streamed(server: Server, content: str) -> str:
    url, body = f"{server.url}/v1/chat/completions", chat_body(content, TOKENS, stream=True)
    text = ""
    with (
        httpx.Client(headers={"Authorization": f"Bearer {KEY}"}, timeout=60) as client,
        httpx_sse.connect_sse(client, "POST", url, json=body) as source,
    ):
        for event in source.iter_sse():
            if event.data != "[DONE]":
                text += "".join(
                    choice["delta"].get("content") or "" for choice in event.json()["choices"]
                )
    return text
