"""What is asked, and what has to come back.

The same bytes go to every frontend. What the text must be is worked out here from the rendered
prompt, as the stand-in does; so a frontend that renders another prompt is found out too.
"""

import itertools
import json
from collections.abc import Sequence
from pathlib import Path

import msgspec
from transformers import PreTrainedTokenizerFast

from tests.bench.standin.speech import Speech

MODEL_NAME = "bench"
NUM_PROMPTS = 256


class Ask(msgspec.Struct):
    """One request and its answer."""

    body: str
    prompt_token_ids: list[int]
    text: str


class Asks(msgspec.Struct):
    """Requests of one kind: streams or plain replies, all of so many tokens."""

    stream: bool
    num_tokens: int
    asks: list[Ask]


Messages = list[dict[str, str]]


def short_chats(number: int) -> list[Messages]:
    """All different: no cache of prompts helps."""
    contents = (f"Request {n}: tell me a short story about the sea." for n in range(number))
    return [[{"role": "user", "content": each}] for each in contents]


class Prompts:
    """Chats, by default short ones, as they are asked and answered."""

    def __init__(self, model: Path, chats: Sequence[Messages] = ()) -> None:
        tokenizer = PreTrainedTokenizerFast.from_pretrained(model)
        self._speech = Speech(model)
        self._messages = chats or short_chats(NUM_PROMPTS)
        self._token_ids = [
            tokenizer.apply_chat_template(each, add_generation_prompt=True, return_dict=False)
            for each in self._messages
        ]

    def asks(self, num_tokens: int, *, stream: bool, most: int | None = None) -> Asks:
        """`most`: only the first so many chats."""
        pairs = zip(self._messages, self._token_ids, strict=True)
        asks = [
            Ask(body(messages, num_tokens, stream), ids, self._speech.text(ids, num_tokens))
            for messages, ids in itertools.islice(pairs, most)
        ]
        return Asks(stream, num_tokens, asks)


def body(messages: Messages, num_tokens: int, stream: bool) -> str:
    asked = {
        "model": MODEL_NAME,
        "messages": messages,
        "max_tokens": num_tokens,
        "temperature": 0,
        "ignore_eos": True,
    }
    if stream:
        asked |= {"stream": True, "stream_options": {"include_usage": True}}
    return json.dumps(asked)
