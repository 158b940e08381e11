"""Budgets of a schema and of its pattern: what each part costs to compile, and to check after.

The unit is one state of the automaton that few tokens can leave: outlines-core looks through the
whole vocabulary for each, 1.3 to 2.7 milliseconds with 130,000 tokens (Tekken).
"""

from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from app.errors import InvalidRequest

MAX_SCHEMA_BYTES = 64 * 1024
"""Of the schema as JSON; the gate's time grows with it."""

MAX_NESTING = 64
"""Levels of the schema's JSON; the walks through it recurse."""

MAX_REGEXES = 100
"""Of a client's in one schema: the validator compiles each, into at most a megabyte."""

MAX_REGEX_CHARS = 2048
"""Of one expression; reading it takes 10 microseconds a character."""

MAX_REGEXES_CHARS = 8192
"""Of all expressions of one schema."""

MAX_REGEXES_PLACES = 16_000
"""Of all expressions, with repeats written out: compiling a thousand takes up to 2 ms."""

MAX_CHECKS = 10_000
"""Schemas that the validator looks at for one value, references followed: half a millisecond."""

MAX_COMPILED = 4000
"""Schemas compiled so that the gate can check literal values: 15 microseconds each."""

MAX_ALL_CHECKS = 200_000
"""Of the literal values that the gate lets the validator check: ten milliseconds."""

MAX_PARTS = 2000
"""Schemas visited after references are inlined, and values listed: 20 microseconds each."""

MAX_DEPTH = 16
"""Levels of an instance: each array or map may double the pattern's text."""

MAX_PATTERN_CHARS = 128 * 1024
"""The automaton is built from the text before it is walked with the vocabulary."""

BUDGET = 1800
"""Four seconds on a slow core, which is less than the compiler's limit of five."""

MAX_REQUEST_COST = 4 * BUDGET
"""All tools of one request: what ordinary schemas are made of compiles ten times faster by now."""

STATE = 1.0
"""A state of the automaton that few tokens can leave, such as one byte of a literal text."""

WIDE_STATES = 17.0
"""One place for any character: seven states, for UTF-8, and most of the vocabulary's tokens."""

COUNTED_STATE = 1.0
"""One more character of a string of free text that is counted: half a millisecond or less."""

LETTER_STATE = 3.5
"""One place for an ASCII letter: a third of the vocabulary's tokens."""


class Refusal(Exception):
    """A schema is refused: a code of InvalidRequest, the place, and the reason."""

    def __init__(self, code: str, pointer: str, reason: str) -> None:
        super().__init__(code, pointer, reason)
        self.code = code
        self.text = f"at {pointer[:256] or '/'}: {reason}"

    def raise_for(self, param: str) -> NoReturn:
        what = {
            "unsupported_schema": "the schema cannot be guaranteed",
            "schema_too_complex": "the schema is too complex",
        }[self.code]
        raise InvalidRequest(f"{param}: {what} {self.text}.", param=param, code=self.code)


def unsupported(pointer: str, reason: str) -> Refusal:
    return Refusal("unsupported_schema", pointer, reason)


def too_complex(pointer: str, reason: str) -> Refusal:
    return Refusal("schema_too_complex", pointer, reason)


BESIDE_ONE = ("not", "if", "then", "else")
BESIDE_SEVERAL = ("allOf", "anyOf", "oneOf")
BELOW_ONE = (
    *("items", "contains", "additionalProperties", "propertyNames"),
    *("unevaluatedItems", "unevaluatedProperties"),
)

Place = tuple[Any, str]
"""A schema and its pointer."""


class Checks:
    """How many schemas the validator looks at for one value of some levels.

    References make a graph of the schema, which the validator walks anew on each way: a few
    dozen definitions that each refer to the next one twice would keep it busy for years.
    """

    def __init__(self, resolve: Callable[[str, str], Place]) -> None:
        self.resolve = resolve
        self.known: dict[tuple[str, int], tuple[int, int]] = {}
        self.open: set[tuple[str, int]] = set()

    def num(self, place: Place, levels: int) -> int:
        """For the innermost value of an instance. Raises Refusal, beyond MAX_CHECKS too."""
        return self.weigh(place, levels)[0]

    def weigh(self, place: Place, levels: int) -> tuple[int, int]:
        """To check a value, and to find what is evaluated, which checks all below once more."""
        schema, pointer = place
        if not isinstance(schema, dict):
            return 1, 1
        key = pointer, levels
        if key not in self.known:
            if key in self.open:
                raise unsupported(pointer, "it refers to itself without going deeper")
            self.open.add(key)
            try:
                self.known[key] = self.weigh_object(schema, pointer, levels)
            finally:
                self.open.remove(key)
        return self.known[key]

    def weigh_object(self, schema: dict[str, Any], pointer: str, levels: int) -> tuple[int, int]:
        beside = [self.weigh(each, levels) for each in self.beside(schema, pointer)]
        checks = 1 + sum(each for each, _ in beside)
        marks = checks + sum(each for _, each in beside)
        if levels:
            checks += self.below(schema, pointer, levels - 1)
        if "unevaluatedItems" in schema or "unevaluatedProperties" in schema:
            checks += marks
        if checks > MAX_CHECKS:
            reason = f"checking one value takes more than {MAX_CHECKS} steps, references followed"
            raise too_complex(pointer, reason)
        return checks, marks

    def beside(self, schema: dict[str, Any], pointer: str) -> Iterator[Place]:
        """What is applied to the same value."""
        if "$ref" in schema:
            yield self.resolve(schema["$ref"], f"{pointer}/$ref")
        for keyword in BESIDE_ONE:
            if keyword in schema:
                yield schema[keyword], f"{pointer}/{keyword}"
        for keyword in BESIDE_SEVERAL:
            for number, each in enumerate(schema.get(keyword, ())):
                yield each, f"{pointer}/{keyword}/{number}"
        yield from named(schema, "dependentSchemas", pointer)

    def below(self, schema: dict[str, Any], pointer: str, levels: int) -> int:
        """What is applied to one value inside: it has one name or number."""
        others = (self.num(each, levels) for each in self.to_all(schema, pointer))
        own = (self.num(each, levels) for each in self.to_one(schema, pointer))
        return sum(others) + max(own, default=0)

    def to_all(self, schema: dict[str, Any], pointer: str) -> Iterator[Place]:
        """What may be applied to every value inside."""
        for keyword in BELOW_ONE:
            if keyword in schema:
                yield schema[keyword], f"{pointer}/{keyword}"
        yield from named(schema, "patternProperties", pointer)

    def to_one(self, schema: dict[str, Any], pointer: str) -> Iterator[Place]:
        """What is applied to one of the values inside, each."""
        yield from named(schema, "properties", pointer)
        for number, each in enumerate(schema.get("prefixItems", ())):
            yield each, f"{pointer}/prefixItems/{number}"

    def reached(self, place: Place) -> list[dict[str, Any]]:
        """The schemas in one and in what it refers to, each once: the validator compiles them."""
        found: dict[str, dict[str, Any]] = {}
        waiting = [place]
        while waiting:
            schema, pointer = waiting.pop()
            if isinstance(schema, dict) and pointer not in found:
                found[pointer] = schema
                for step in (self.beside, self.to_all, self.to_one):
                    waiting.extend(step(schema, pointer))
        return list(found.values())


def named(schema: dict[str, Any], keyword: str, pointer: str) -> Iterator[Place]:
    for name, each in schema.get(keyword, {}).items():
        yield each, f"{pointer}/{keyword}/{escape(name)}"


def escape(name: str) -> str:
    """A name as one part of a JSON pointer."""
    return name.replace("~", "~0").replace("/", "~1")
