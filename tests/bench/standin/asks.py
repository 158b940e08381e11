"""What is asked, and what has to come back.

The same bytes go to every frontend. What the text must be is worked out here from the rendered
prompt, as the stand-in does; so a frontend that renders another prompt is found out too.
"""

import json
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


class Prompts:
    """Short chats, all different: no cache of prompts helps."""

    def __init__(self, model: Path) -> None:
        tokenizer = PreTrainedTokenizerFast.from_pretrained(model)
        self._speech = Speech(model)
        self._messages = [
            [{"role": "user", "content": f"Request {n}: tell me a short story about the sea."}]
            for n in range(NUM_PROMPTS)
        ]
        self._token_ids = [
            tokenizer.apply_chat_template(each, add_generation_prompt=True, return_dict=False)
            for each in self._messages
        ]

    def asks(self, num_tokens: int, *, stream: bool) -> Asks:
        pairs = zip(self._messages, self._token_ids, strict=True)
        asks = [
            Ask(body(messages, num_tokens, stream), ids, self._speech.text(ids, num_tokens))
            for messages, ids in pairs
        ]
        return Asks(stream, num_tokens, asks)


def body(messages: list[dict[str, str]], num_tokens: int, stream: bool) -> str:
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
