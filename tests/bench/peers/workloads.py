"""What is asked of every peer, in the same bytes; and what came back in one block of time."""

import math
from collections.abc import Sequence
from typing import Literal

import msgspec

KEY = MODEL_NAME = "bench"
"""Sent to all; vLLM's servers are started without a key and do not look at it."""

BATCH_PROMPTS = 256

Way = Literal["wrk", "first token", "batch"]


class Workload(msgspec.Struct, frozen=True):
    """Clients that ask again as soon as they are answered, each for so many tokens."""

    name: str
    connections: int
    tokens: int
    stream: bool
    way: Way = "wrk"


WORKLOADS = {
    each.name: each
    for each in (
        Workload("streams-128", 128, 64, True),
        Workload("streams-16", 16, 64, True),
        Workload("short-replies-64", 64, 1, False),
        Workload("first-token-1", 1, 16, True, "first token"),
        Workload("first-token-32", 32, 64, True, "first token"),
        Workload("batch-256", 1, 64, False, "batch"),
        Workload("replies-32", 32, 64, False),
    )
}


class WrongReply(Exception):
    """A peer was asked and did not answer as it must; a figure of it would mean nothing."""


class Load(msgspec.Struct, frozen=True):
    """What clients saw in a block; replies that its end cut off are not in it."""

    replies: int
    tokens: int
    seconds: float
    events: int = 0
    """Events of streams that had some text."""

    first_token_seconds: Sequence[float] = ()


class Block(msgspec.Struct, frozen=True):
    """One peer's turn, with the state of the machine."""

    load: Load
    cpu_seconds: float
    """Of all its processes but the engine's core and workers, for cut-off replies too."""

    load_average: float
    """Of the last minute, at the end."""

    steal: float
    """Share of the machine's time that its host gave to others."""

    @property
    def events_per_token(self) -> float:
        return self.load.events / self.load.tokens


def prompt(block: str, number: int) -> str:
    """No two are alike in a run, else a cache of prefixes would answer; `load.lua` has it too."""
    return f"Request {block}-{number}: tell me a short story about the sea"


def chat_body(content: str, tokens: int, *, stream: bool) -> dict[str, object]:
    """The request of `load.lua`."""
    asked: dict[str, object] = {
        "model": MODEL_NAME,
        "messages": [{"role": "user", "content": content}],
        "max_tokens": tokens,
        "temperature": 0,
        "ignore_eos": True,
        "stream": stream,
    }
    return asked | ({"stream_options": {"include_usage": True}} if stream else {})


def percentile(values: Sequence[float], percent: float) -> float:
    """The least of them that so many percent are not above."""
    rank = math.ceil(len(values) * percent / 100)
    return sorted(values)[max(rank, 1) - 1]
