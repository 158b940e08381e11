"""Chats of given sizes, of what the demo model's corpus says; no two are alike."""

import itertools
import random
from collections.abc import Iterator
from functools import cache

import msgspec

from app.demo import DEMO_PATH
from tests.bench.standin.asks import Messages

CORPUS = DEMO_PATH / "corpus" / "english.jsonl"


@cache
def sentences() -> list[str]:
    lines = CORPUS.read_bytes().splitlines()
    chats = [msgspec.json.decode(line)["messages"] for line in lines]
    return [message["content"] for chat in chats for message in chat]


def words(seed: str) -> Iterator[str]:
    """Sentences of the corpus by chance, for ever; the first begins with the seed."""
    chosen = random.Random(seed)
    yield f"{seed} {chosen.choice(sentences())}"
    while True:
        yield chosen.choice(sentences())


def long_chat(chars: int, number: int) -> Messages:
    """One message of exactly so many characters."""
    text, more = "", words(f"{number}.")
    while len(text) < chars:
        text += next(more) + " "
    return [{"role": "user", "content": text[:chars]}]


def full_chat(messages: int, number: int) -> Messages:
    """So many messages of a sentence, in turns; the last is the user's."""
    roles = ("user", "assistant") if messages % 2 else ("assistant", "user")
    texts = itertools.islice(words(f"{number}."), messages)
    return [
        {"role": role, "content": text}
        for role, text in zip(itertools.cycle(roles), texts, strict=False)
    ]
