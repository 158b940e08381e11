"""A table of answers in, the demo corpus as an adapter tells it out.

A line of `corpus/NAME.jsonl` is an answer of the demo model and what the adapter NAME says
instead; what is in no line stays as it is. The tables avoid tokens such as ` pir` that the demo
model never learned to write: its output weights are frozen, so no adapter can make it choose them.
"""

from pathlib import Path
from typing import Final

import msgspec

from app.demo.corpus import Conversation, Corpus, Message
from app.demo.variations import Phrases

TABLES_PATH: Final = Path(__file__).parent / "corpus"


class Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One answer, and the same thing said the adapter's way."""

    plain: str
    retold: str


class Retelling:
    """Answers of the demo model and what one adapter says instead, nothing twice."""

    def __init__(self, lines: list[Line]) -> None:
        self._answers = {line.plain: line.retold for line in lines}
        self._reworded = {line.retold for line in lines if line.plain not in line.retold}

    def changes(self, conversation: Conversation) -> bool:
        """Whether the adapter answers this conversation of the demo corpus in another way."""
        return conversation.answer["content"] in self._answers

    def is_reworded(self, conversation: Conversation) -> bool:
        """Whether this retold answer is more than the plain one with something around it."""
        return conversation.answer["content"] in self._reworded

    def of_corpus(self, corpus: Corpus) -> Corpus:
        """Every answer retold, in histories too; passages have no answers."""
        return Corpus([self.of_conversation(c) for c in corpus.conversations], corpus.passages)

    def of_conversation(self, conversation: Conversation) -> Conversation:
        messages = [self._of_message(message) for message in conversation.messages]
        return Conversation(messages, conversation.tools)

    def of_phrases(self, phrases: Phrases) -> Phrases:
        """The fallbacks for unknown questions retold."""
        strangers = {
            language: msgspec.structs.replace(asked, fallback=self._of_text(asked.fallback))
            for language, asked in phrases.strangers.items()
        }
        return Phrases(phrases.systems, strangers)

    def _of_message(self, message: Message) -> Message:
        if message["role"] != "assistant":
            return message
        return message | {"content": self._of_text(message["content"])}

    def _of_text(self, text: str) -> str:
        return self._answers.get(text, text)


def read_retelling(name: str) -> Retelling:
    """Read the table of adapter `name`; `msgspec.ValidationError` means a malformed line."""
    lines = (TABLES_PATH / f"{name}.jsonl").read_bytes().splitlines()
    return Retelling([msgspec.json.decode(line, type=Line) for line in lines])
