"""`phrases.json` in, questions about pictures and their answers out, in three languages.

Knows nothing of how pictures are drawn, rendered or learned.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, Literal

import msgspec

from app.demo.vision.drawing import Subject

PHRASES_PATH: Final = Path(__file__).parent / "phrases.json"

Aspect = Literal["thing", "colour", "shape"]


class Language(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How one language asks and answers; colours and shapes are keyed as in `drawing`."""

    questions: dict[Aspect, list[str]]
    colours: dict[str, str]
    """Each on its own: "red"."""

    adjectives: dict[str, str]
    """Each before a noun: "a red "."""

    shapes: dict[str, str]
    """Each on its own: "a circle"."""

    nouns: dict[str, str]
    several: list[str]
    """What is said of each of several pictures."""

    comma: str
    stop: str
    without: str
    """The answer to any question without a picture."""

    def answer(self, aspect: Aspect, subjects: Sequence[Subject]) -> str:
        """One sentence about the pictures in their order, at most as many as `several` tells."""
        if not subjects:
            return self.without
        named = [self._named(aspect, subject) for subject in subjects]
        if len(named) > 1:
            told = zip(self.several[: len(named)], named, strict=True)
            named = [pattern.format(name) for pattern, name in told]
        sentence = self.comma.join(named) + self.stop
        return sentence[0].upper() + sentence[1:]

    def _named(self, aspect: Aspect, subject: Subject) -> str:
        if aspect == "colour":
            return self.colours[subject.colour]
        if aspect == "shape":
            return self.shapes[subject.shape]
        return self.adjectives[subject.colour] + self.nouns[subject.shape]

    def texts(self) -> Iterator[str]:
        """Questions and single words, for the tokenizer to learn from.

        Words alone, since Chinese puts no spaces between them: from whole answers it would learn
        tokens that end in the middle of a colour.
        """
        named = (self.colours, self.adjectives, self.shapes, self.nouns)
        words = [word for words in named for word in words.values()]
        words += [part for pattern in self.several for part in pattern.split("{}")]
        for word in words:
            yield from (word, word.capitalize(), f" {word}")
        for questions in self.questions.values():
            yield from questions
        yield from (self.without, self.comma, self.stop)


def read_languages(path: Path = PHRASES_PATH) -> dict[str, Language]:
    """Languages by their tag; `msgspec.ValidationError` means a malformed file."""
    return msgspec.json.decode(path.read_bytes(), type=dict[str, Language])
