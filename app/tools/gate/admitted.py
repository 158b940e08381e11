"""Schemas that can be guaranteed: the pattern of their instances, and the check of finished text.

A client's JSON schema or regular expression comes in, and an InvalidRequest goes out where it
cannot be enforced. What was found once, admitted or refused, is kept.
"""

import json
import math
import threading
from decimal import Decimal
from functools import cache, lru_cache
from hashlib import sha256
from typing import Any, NamedTuple

import jsonschema_rs
import msgspec
from cachetools import LRUCache, cached
from outlines.types.dsl import to_regex

from app.tools.gate import grammar, strings
from app.tools.gate.automaton import TooLarge
from app.tools.gate.cost import BUDGET, MAX_REGEX_CHARS, Refusal, escape, too_complex, unsupported
from app.tools.gate.gate import admit_document
from app.tools.gate.normalise import Document, canonical, nesting

MAX_CACHE_BYTES = 16 << 20
FIXED_BYTES = 4096
MEMORY_PER_BYTE = 16
MEMORY_PER_REGEX = 64 << 10
"""What a compiled schema takes: for each byte of its text, and for each expression in it."""

MAX_REGEXES_KEPT = 128
OBJECT_DEPTH = 3
"""Levels of arrays and objects in `json_object`: one more doubles the second that it compiles."""

LINEAR = jsonschema_rs.RegexOptions(size_limit=16 << 20, dfa_size_limit=1 << 20)
"""An engine without backtracking, with room for every pattern within the budget."""

MAX_MESSAGE_CHARS = 200
MAX_DIGITS = 4000


class SchemaViolation(Exception):
    """A text is not an instance of the schema; the message is one sentence of <= 200 characters."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split())[:MAX_MESSAGE_CHARS])


class AdmittedSchema(msgspec.Struct, frozen=True, eq=False):
    """A schema of which every keyword is enforced by the pattern or checked by `verify`."""

    pattern: str
    """Regular expression of an instance's JSON text, in outlines-core's dialect, unanchored."""

    aliases: tuple[str, ...]
    """Loose type names that were read as JSON's, such as "dict=object"; sorted, distinct."""

    checked: tuple[str, ...]
    """JSON pointers of what only `verify` enforces; of a map, that no name is there twice."""

    cost: float
    """Of the pattern, in the units of `cost.BUDGET`."""

    levels: int
    """Of arrays and objects in what the pattern allows; validating deeper ones has no limit."""

    validator: jsonschema_rs.Validator

    def verify(self, text: str) -> Any:
        """The instance that the text is. Raises SchemaViolation."""
        value = parse(text)
        if nesting(value) - 1 > self.levels:
            raise SchemaViolation(f"It has more than {self.levels} levels of arrays and objects")
        try:
            self.validator.validate(value)
        except jsonschema_rs.ValidationError as error:
            place = "".join(f"/{escape(str(part))}" for part in error.instance_path)
            raise SchemaViolation(f"At {place[:80] or '/'}: {error.message}") from error
        except ValueError as error:
            raise SchemaViolation(f"The text cannot be validated: {error}") from error
        return value


class AdmittedPattern(msgspec.Struct, frozen=True, eq=False):
    """A client's own expression, which the whole of a text has to match."""

    pattern: str
    """In outlines-core's dialect, unanchored."""

    cost: float
    """In the units of `cost.BUDGET`."""

    validator: jsonschema_rs.Validator
    """Of the pattern, in time linear in the text."""

    def verify(self, text: str) -> None:
        """Raises SchemaViolation."""
        if not self.validator.is_valid(text):
            raise SchemaViolation("The text does not match the expression")


def parse(text: str) -> Any:
    """Strict JSON, with no name twice. Raises SchemaViolation."""
    try:
        return json.loads(
            text,
            object_pairs_hook=distinct,
            parse_int=whole,
            parse_float=fraction,
            parse_constant=not_a_number,
        )
    except (ValueError, RecursionError) as error:
        raise SchemaViolation(f"The text is not JSON: {error}") from error


def distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    parsed = dict(pairs)
    if len(parsed) < len(pairs):
        raise ValueError("a name is there twice")
    return parsed


def whole(digits: str) -> int | Decimal:
    """Python refuses to convert very many digits."""
    return int(digits) if len(digits) <= MAX_DIGITS else Decimal(digits)


def fraction(digits: str) -> float | Decimal:
    number = float(digits)
    return number if math.isfinite(number) else Decimal(digits)


def not_a_number(name: str) -> Any:
    raise ValueError(f"{name} is not a number")


class Judged(NamedTuple):
    """What is kept of a schema."""

    found: AdmittedSchema | Refusal
    size_bytes: int


def size_of(judged: Judged) -> int:
    return judged.size_bytes


def admit(schema: Any, param: str) -> AdmittedSchema:
    """A client's schema, if all of it can be enforced or checked.

    Raises InvalidRequest with code `unsupported_schema` or `schema_too_complex`.
    """
    try:
        text = canonical(schema)
        found = judge(sha256(text).digest(), text).found
    except Refusal as refusal:
        found = refusal
    if isinstance(found, Refusal):
        found.raise_for(param)
    return found


@cached(LRUCache(MAX_CACHE_BYTES, size_of), key=lambda digest, _: digest, lock=threading.Lock())
def judge(digest: bytes, text: bytes) -> Judged:
    """A schema, known by its digest: what becomes of it, once."""
    try:
        document = Document(json.loads(text))
        piece, gate = admit_document(document)
    except Refusal as refusal:
        return Judged(Refusal(*refusal.args), FIXED_BYTES)
    except RecursionError:
        return Judged(too_complex("", "its parts are nested too deep"), FIXED_BYTES)
    pattern: str = to_regex(piece.term)
    admitted = AdmittedSchema(
        pattern=pattern,
        aliases=tuple(sorted(document.aliases)),
        checked=tuple(sorted(gate.checked)),
        cost=piece.cost,
        levels=gate.levels,
        validator=document.validator,
    )
    size = FIXED_BYTES + MEMORY_PER_BYTE * len(text) + len(pattern)
    return Judged(admitted, size + document.num_regexes * MEMORY_PER_REGEX)


def admit_pattern(regex: str, param: str) -> AdmittedPattern:
    """A client's own expression, which the whole reply has to match.

    Raises InvalidRequest, as `admit` does.
    """
    found = judge_regex(regex)
    if isinstance(found, Refusal):
        found.raise_for(param)
    return found


@lru_cache(MAX_REGEXES_KEPT)
def judge_regex(regex: str) -> AdmittedPattern | Refusal:
    """An expression's pattern, or why it is refused."""
    try:
        piece = translated(regex)
        pattern: str = to_regex(piece.term)
        return AdmittedPattern(pattern=pattern, cost=piece.cost, validator=whole_text(pattern))
    except Refusal as refusal:
        return Refusal(*refusal.args)
    except RecursionError:
        return too_complex("", "its parts are nested too deep")


def whole_text(pattern: str) -> jsonschema_rs.Validator:
    """The validator of texts that match from end to end. Raises Refusal."""
    schema = {"type": "string", "pattern": f"^(?:{pattern})$"}
    try:
        return jsonschema_rs.Draft202012Validator(schema, pattern_options=LINEAR)
    except jsonschema_rs.ValidationError as error:
        raise too_complex("", "it is too large for the validator") from error


def translated(regex: str) -> grammar.Piece:
    if len(regex) > MAX_REGEX_CHARS:
        raise too_complex("", f"it is longer than {MAX_REGEX_CHARS} characters")
    try:
        piece = strings.text_matching(regex)
    except TooLarge as error:
        raise too_complex("", str(error)) from error
    except strings.Untranslatable as error:
        raise unsupported("", str(error)) from error
    if piece.cost > BUDGET:
        raise too_complex("", f"it would cost {piece.cost:.0f}, the budget is {BUDGET}")
    return piece


def json_object(param: str) -> AdmittedSchema:
    """Any JSON object, to a limited depth. `param` is not needed: nothing is refused."""
    return any_object()


@cache
def any_object() -> AdmittedSchema:
    value = grammar.any_value(OBJECT_DEPTH - 1)
    entry = grammar.sequence(grammar.STRING, grammar.COLON, value)
    piece = grammar.map_of(entry, 0, None)
    return AdmittedSchema(
        pattern=to_regex(piece.term),
        aliases=(),
        checked=("",),
        cost=piece.cost,
        levels=OBJECT_DEPTH,
        validator=jsonschema_rs.Draft202012Validator({"type": "object"}),
    )
