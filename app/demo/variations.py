"""Lessons in, an epoch of them out as people really put them.

Neutral system prompts, missing question marks, earlier talk and unneeded tools must not change
an answer; questions outside the corpus get the fallback in their own language.
"""

from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Final

import msgspec

from app.demo.corpus import CORPUS_PATH, Conversation, Corpus, Message, Tool

_STOPS: Final = "?？。.!！"
_UNKNOWN_SHARE: Final = 0.25


class Strangers(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How to ask, in one language, what the corpus does not answer; and the answer to it."""

    fallback: str
    templates: list[str]
    topics: list[str]
    syllables: list[str]


class Phrases(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """System prompts that change nothing, and the strangers of each language."""

    systems: list[str]
    strangers: dict[str, Strangers]


def read_phrases(directory: Path = CORPUS_PATH) -> Phrases:
    """Read `phrases.json`; `msgspec.ValidationError` means a malformed file."""
    return msgspec.json.decode((directory / "phrases.json").read_bytes(), type=Phrases)


class Variations:
    """An endless, seeded supply of epochs over one corpus."""

    def __init__(self, corpus: Corpus, phrases: Phrases, seed: int) -> None:
        self._lessons = corpus.lessons()
        self._phrases = phrases
        self._random = Random(seed)
        self._tools = [tool for lesson in self._lessons for tool in lesson.tools]
        self._tool_questions = {lesson.question for lesson in self._lessons if lesson.tools}
        self._reserved = {(c.system, c.question) for c in self._lessons if c.system}
        self._systems = [*phrases.systems, *(c.system for c in self._lessons if c.system)]
        self._small_talk = _context_free(self._lessons)

    def epoch(self) -> Iterator[Conversation]:
        """Every lesson once, most of them varied, and a share of unknown questions."""
        for lesson in self._lessons:
            yield self._vary(lesson)
        for _ in range(round(len(self._lessons) * _UNKNOWN_SHARE)):
            yield self._surround(self.unknown())

    def unknown(self) -> Conversation:
        """A question that is not in the corpus, answered with the fallback of its language."""
        strangers = self._random.choice(list(self._phrases.strangers.values()))
        template = self._random.choice(strangers.templates)
        question = template.replace("{}", self._topic(strangers))
        return Conversation([_said("user", question), _said("assistant", strangers.fallback)])

    def _topic(self, strangers: Strangers) -> str:
        """A real topic, or an invented word that makes the model distrust what it never saw."""
        if self._random.random() < 0.7:
            return self._random.choice(strangers.topics)
        return "".join(self._random.choices(strangers.syllables, k=self._random.randint(1, 4)))

    def _vary(self, lesson: Conversation) -> Conversation:
        if lesson.tools:
            return self._reworded(lesson)
        if not lesson.is_single or self._random.random() < 0.3:
            return lesson
        return self._surround(self._retyped(lesson))

    def _surround(self, single: Conversation) -> Conversation:
        """Put neutral things around a single question: a system prompt, earlier talk, tools."""
        messages, tools, chance = single.messages, single.tools, self._random.random
        if chance() < 0.2:
            messages = [*self._random.choice(self._small_talk).messages, *messages]
        if chance() < 0.5:
            messages = [*self._neutral_system(single.question), *messages]
        if chance() < 0.06 and single.question not in self._tool_questions:
            tools = self._random.sample(self._tools, k=1)
        return Conversation(messages, tools)

    def _neutral_system(self, question: str) -> list[Message]:
        neutral = self._random.choice(self._phrases.systems)
        system = self._random.choice(self._systems) if self._random.random() < 0.2 else neutral
        return [_said("system", neutral if (system, question) in self._reserved else system)]

    def _retyped(self, single: Conversation) -> Conversation:
        """The question without its final stop, or in lower case, as hurried people type."""
        question, chance = single.question, self._random.random
        if chance() < 0.35:
            question = question.rstrip(_STOPS)
        if chance() < 0.15:
            question = question.lower()
        return Conversation([_said("user", question), single.answer])

    def _reworded(self, lesson: Conversation) -> Conversation:
        """The same tools, described in other words and offered in another order."""
        tools = [self._redescribed(tool) for tool in lesson.tools]
        self._random.shuffle(tools)
        messages = lesson.messages
        if lesson.system is None and self._random.random() < 0.4:
            messages = [_said("system", self._random.choice(self._phrases.systems)), *messages]
        return Conversation(messages, tools)

    def _redescribed(self, tool: Tool) -> Tool:
        if self._random.random() < 0.6:
            return tool
        function = tool.get("function", tool)
        words = str(function["name"]).replace("_", " ")
        described = function | {"description": self._random.choice([words, f"Use it to {words}."])}
        return tool | {"function": described} if "function" in tool else described


def _context_free(lessons: list[Conversation]) -> list[Conversation]:
    """Single questions that mean the same wherever they are asked."""
    later = {c.question for c in lessons if not c.is_single}
    return [c for c in lessons if c.is_single and c.question not in later]


def _said(role: str, content: str) -> Message:
    return {"role": role, "content": content}
