"""A source of randomness in, conversations about drawn pictures out, as people hold them.

A question may stand before or behind its pictures or be missing, be typed carelessly, be about
pictures of an earlier turn or about something else altogether. Knows nothing of tokens.
"""

from random import Random
from typing import Any, Final, NamedTuple

from app.demo.variations import read_phrases
from app.demo.vision.drawing import Subject, any_subject
from app.demo.vision.phrases import Aspect, Language, read_languages

Message = dict[str, Any]

MOST_PICTURES: Final = 3
"""In one turn: as many as the answers can count."""

_STOPS: Final = "?？。."
_PICTURE: Final = {"type": "image"}


class Lesson(NamedTuple):
    """Messages for the chat template, the answers among them, and what is on the pictures."""

    messages: list[Message]
    subjects: list[Subject]


def asked(language: Language, aspect: Aspect, question: str, subjects: list[Subject]) -> Lesson:
    """One question behind its pictures, and the answer."""
    content = [*([_PICTURE] * len(subjects)), _text(question)]
    answer = language.answer(aspect, subjects)
    return Lesson([_said("user", content), _said("assistant", answer)], subjects)


class Lessons:
    """An endless, seeded supply of conversations."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)
        self._languages = read_languages()
        self._phrases = read_phrases()

    def lesson(self) -> Lesson:
        """One or two turns in one language, perhaps with a system prompt that changes nothing."""
        tag = self._random.choices(list(self._languages), weights=[5, 3, 2])[0]
        lesson = Lesson([], [])
        if self._chance(0.25):
            lesson.messages.append(_said("system", self._random.choice(self._phrases.systems)))
        shown = self._turn(lesson, tag, [])
        if self._chance(0.15):
            self._turn(lesson, tag, shown)
        return lesson

    def _turn(self, lesson: Lesson, tag: str, shown: list[Subject]) -> list[Subject]:
        """A question and its answer; gives back what was talked about.

        Without pictures of its own it is about those `shown` before.
        """
        language = self._languages[tag]
        subjects = [any_subject(self._random) for _ in range(self._number_of_pictures(shown))]
        lesson.subjects.extend(subjects)
        about = subjects or shown
        aspect, question = self._question(language, tag)
        if subjects and self._chance(0.03):
            aspect, question, language = "thing", "", self._languages["en"]
        lesson.messages.append(_said("user", self._content(question, len(subjects))))
        lesson.messages.append(_said("assistant", language.answer(aspect, about)))
        return about

    def _number_of_pictures(self, shown: list[Subject]) -> int:
        weights = [8, 45, 35, 12] if not shown else [60, 25, 15, 0]
        return self._random.choices(range(MOST_PICTURES + 1), weights=weights)[0]

    def _question(self, language: Language, tag: str) -> tuple[Aspect, str]:
        if self._chance(0.08):
            return "thing", self._stranger(tag)
        aspect = self._random.choices(list(language.questions), weights=[3, 1, 1])[0]
        return aspect, self._retyped(self._random.choice(language.questions[aspect]))

    def _stranger(self, tag: str) -> str:
        """A question that has nothing to do with pictures; whatever is shown is named then."""
        strangers = self._phrases.strangers[tag]
        template = self._random.choice(strangers.templates)
        return template.replace("{}", self._random.choice(strangers.topics))

    def _retyped(self, question: str) -> str:
        """Without its final stop, or in lower case, as hurried people type."""
        if self._chance(0.25):
            question = question.rstrip(_STOPS)
        return question.lower() if self._chance(0.15) else question

    def _content(self, question: str, pictures: int) -> str | list[Message]:
        """Parts with the pictures first or last, perhaps on lines of their own; or a string."""
        if not pictures:
            return question
        line = [_text("\n")] if self._chance(0.25) else []
        parts = [[_PICTURE]] * pictures
        if question:
            parts.insert(0 if self._chance(0.5) else pictures, [_text(question)])
        return [*parts[0], *(each for part in parts[1:] for each in (*line, *part))]

    def _chance(self, share: float) -> bool:
        return self._random.random() < share


def _said(role: str, content: str | list[Message]) -> Message:
    return {"role": role, "content": content}


def _text(text: str) -> Message:
    return {"type": "text", "text": text}
