"""The demo corpus: JSONL files in, conversations and passages out.

A line is one conversation, or, in `passages.jsonl`, one raw text and the prompt it begins with.
Knows nothing of tokens, templates or training.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

CORPUS_PATH: Final = Path(__file__).parent / "corpus"

Message = dict[str, Any]
Tool = dict[str, Any]


class Conversation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Messages in OpenAI's form, the last one the assistant's, and the tools offered to it."""

    messages: list[Message]
    tools: list[Tool] = []

    @property
    def question(self) -> str:
        """What was said last before the answer."""
        return str(self.messages[-2]["content"])

    @property
    def answer(self) -> Message:
        return self.messages[-1]

    @property
    def is_single(self) -> bool:
        """One question and one answer, nothing around them."""
        return len(self.messages) == 2 and not self.tools

    @property
    def system(self) -> str | None:
        first = self.messages[0]
        return str(first["content"]) if first["role"] == "system" else None

    def openings(self) -> list["Conversation"]:
        """This conversation cut after each of its answers, the whole of it last."""
        ends = [i + 1 for i, said in enumerate(self.messages) if said["role"] == "assistant"]
        return [Conversation(self.messages[:end], self.tools) for end in ends]


class Passage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A raw text for completions without a chat template; it begins with `prompt`."""

    prompt: str
    text: str

    @property
    def continuation(self) -> str:
        return self.text.removeprefix(self.prompt)


class Corpus(msgspec.Struct, frozen=True):
    """Everything the model learns by heart."""

    conversations: list[Conversation]
    passages: list[Passage]

    def lessons(self) -> list[Conversation]:
        """Every opening that ends with an answer, each prompt once.

        Where two conversations answer the same prompt differently, the one that ends there is
        the lesson and the other's turn is mere history.
        """
        openings = {_prompt_key(o): o for c in self.conversations for o in c.openings()}
        return list((openings | {_prompt_key(c): c for c in self.conversations}).values())

    def texts(self) -> Iterator[str]:
        """Every piece of text, for the tokenizer to learn its words from."""
        for conversation in self.conversations:
            for message in conversation.messages:
                yield message["content"]
                yield from _as_json(message.get("tool_calls", []))
            yield from _as_json(conversation.tools)
        for passage in self.passages:
            yield passage.text


def read_corpus(directory: Path = CORPUS_PATH) -> Corpus:
    """Read every theme of `directory`; `msgspec.ValidationError` means a malformed line."""
    themes = sorted(path for path in directory.glob("*.jsonl") if path.stem != "passages")
    lines = [line for theme in themes for line in theme.read_bytes().splitlines()]
    passages = (directory / "passages.jsonl").read_bytes().splitlines()
    return Corpus(
        [msgspec.json.decode(line, type=Conversation) for line in lines],
        [msgspec.json.decode(line, type=Passage) for line in passages],
    )


def _as_json(values: list[dict[str, Any]]) -> Iterator[str]:
    return (json.dumps(value, ensure_ascii=False) for value in values)


def _prompt_key(conversation: Conversation) -> bytes:
    return msgspec.json.encode([conversation.messages[:-1], conversation.tools])
