"""Patterns of JSON text and what they cost: small pieces in, larger ones out.

At most one space stands behind each comma and colon and none elsewhere, so that an undecided
model cannot fill up on them. Nothing here knows schemas.
"""

import json
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import pairwise, takewhile
from typing import NamedTuple

from outlines.types import dsl

from app.engine.base import JSON_CHARACTER
from app.tools.gate.cost import COUNTED_STATE, STATE


class Piece(NamedTuple):
    """A part of a pattern."""

    term: dsl.Term
    cost: float
    chars: int
    """At least the length of the term as a regular expression."""

    expression: dsl.Term | None = None
    """What is between the quotes of a string, where its automaton can be measured."""


class Member(NamedTuple):
    """One property of an object: its name, its value, and whether it must be there."""

    name: str
    value: Piece
    required: bool


def literal(text: str) -> Piece:
    return Piece(dsl.String(text), STATE * len(text.encode()), 2 * len(text))


def raw(pattern: str, cost: float) -> Piece:
    return Piece(dsl.Regex(pattern), cost, len(pattern) + 2)


def sequence(*pieces: Piece) -> Piece:
    return Piece(
        dsl.Sequence([piece.term for piece in pieces]),
        sum(piece.cost for piece in pieces),
        sum(piece.chars for piece in pieces),
    )


def either(pieces: Sequence[Piece]) -> Piece:
    if len(pieces) == 1:
        return pieces[0]
    return Piece(
        dsl.either(*(piece.term for piece in pieces)),
        sum(piece.cost for piece in pieces),
        sum(piece.chars + 1 for piece in pieces) + 2,
    )


def optional(piece: Piece) -> Piece:
    return Piece(dsl.optional(piece.term), piece.cost, piece.chars + 3)


def repeat(piece: Piece, least: int, most: int | None) -> Piece:
    """From `least` to `most` times; None is without end."""
    copies = max(least, 1) if most is None else most
    if most is not None:
        term: dsl.Term = dsl.between(least, most, piece.term)
    else:
        term = dsl.at_least(least, piece.term) if least else dsl.zero_or_more(piece.term)
    return Piece(term, piece.cost * copies, piece.chars + 24)


def one_of(texts: Iterable[str]) -> Piece:
    """One of some texts, which share the states of what they begin with in common."""
    distinct = sorted(set(texts))
    shared = sum(num_in_common(*pair) for pair in pairwise(distinct))
    pieces = [literal(text) for text in distinct]
    return either(pieces)._replace(cost=sum(piece.cost for piece in pieces) - STATE * shared)


def num_in_common(one: str, other: str) -> int:
    """Characters with which both texts begin."""
    same = (a == b for a, b in zip(one, other, strict=False))
    return sum(takewhile(bool, same))


STRING = raw(f'"({JSON_CHARACTER})*"', 4 * STATE)
"""Its characters are without `\\u`: pairs of surrogates would have to be balanced."""

INTEGER = raw("-?(0|[1-9][0-9]*)", 4 * STATE)
NUMBER = raw(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]{1,2})?", 9 * STATE)
"""Digits without a limit: a state for each that is counted would be half of many patterns."""

BOOLEAN = raw("true|false", 9 * STATE)
NULL = literal("null")
COMMA = raw(", ?", 2 * STATE)
COLON = raw(": ?", 2 * STATE)


def string(least: int, most: int | None) -> Piece:
    """Any string, in characters of its value."""
    if not least and most is None:
        return STRING
    counted = repeat(raw(JSON_CHARACTER, COUNTED_STATE), least, most)
    return sequence(literal('"'), counted, literal('"'))


def json_literal(value: object) -> Piece:
    """One JSON value, with the spaces that the model may put."""
    if isinstance(value, dict):
        members = [Member(name, json_literal(each), True) for name, each in value.items()]
        return object_of(members, least=0)
    if isinstance(value, list):
        return array_of([json_literal(each) for each in value], None, len(value), len(value))
    return literal(spell(value))


def literal_values(values: Sequence[object]) -> Piece:
    """One of some JSON values, of which there is at least one."""
    plain = [spell(each) for each in values if not isinstance(each, dict | list)]
    nested = [json_literal(each) for each in values if isinstance(each, dict | list)]
    return either([*([one_of(plain)] if plain else []), *nested])


def spell(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text.replace("\x7f", "\\u007f")


def array_of(prefix: Sequence[Piece], rest: Piece | None, least: int, most: int | None) -> Piece:
    """An array that begins with `prefix`, as far as it reaches, and goes on with `rest`."""
    if not prefix:
        return enclose(
            "[", separated(rest, least, most) if rest and most != 0 else None, least > 0, "]"
        )
    inner = optional_tail(rest, max(least - len(prefix), 0), most, len(prefix))
    for number in range(len(prefix), 0, -1):
        item = prefix[number - 1]
        parts = [item] if number == 1 else [COMMA, item]
        inner = sequence(*parts, *([inner] if inner else []))
        if number > least and number > 1:
            inner = optional(inner)
    assert inner is not None
    return enclose("[", inner, least > 0, "]")


def optional_tail(rest: Piece | None, least: int, most: int | None, begun: int) -> Piece | None:
    if rest is None or (most is not None and most <= begun):
        return None
    return repeat(sequence(COMMA, rest), least, None if most is None else most - begun)


def separated(item: Piece, least: int, most: int | None) -> Piece:
    """Items with commas between, at least one.

    As `(item, )*item`: the automaton has one copy of the item, of `item(, item)*` it has two.
    """
    before = max(least - 1, 0)
    repeated = repeat(sequence(item, COMMA), before, None if most is None else most - 1)
    copies = before + 1 if most is None else most
    piece = sequence(repeated, item)
    return piece._replace(cost=copies * (item.cost + COMMA.cost))


def enclose(opening: str, inner: Piece | None, required: bool, closing: str) -> Piece:
    if inner is None:
        return literal(opening + closing)
    return sequence(literal(opening), inner if required else optional(inner), literal(closing))


def map_of(entry: Piece, least: int, most: int | None) -> Piece:
    """An object of any properties: `entry` is a name, a colon and a value."""
    return enclose("{", separated(entry, least, most), least > 0, "}")


def object_of(members: Sequence[Member], least: int) -> Piece:
    """An object of these properties, in their order; `least` 1 forbids the empty one."""
    if not members:
        return literal("{}")
    if not any(member.required for member in members):
        cost = sum(property_of(member).cost + 2 * COMMA.cost for member in members)
        return enclose("{", nonempty(members)._replace(cost=cost), least > 0, "}")
    first = next(number for number, member in enumerate(members) if member.required)
    parts = [optional(sequence(property_of(member), COMMA)) for member in members[:first]]
    parts.append(property_of(members[first]))
    for member in members[first + 1 :]:
        part = sequence(COMMA, property_of(member))
        parts.append(part if member.required else optional(part))
    return enclose("{", sequence(*parts), True, "}")


def property_of(member: Member) -> Piece:
    return sequence(literal(spell(member.name)), COLON, member.value)


def nonempty(members: Sequence[Member]) -> Piece:
    """At least one of the optional properties, in their order.

    Either one of the first half and perhaps more, or none of it: n log n of text, of which the
    automaton makes one copy. Listing each that may come first is n squared.
    """
    if len(members) == 1:
        return property_of(members[0])
    half = len(members) // 2
    trailing = [optional(sequence(property_of(member), COMMA)) for member in members[:half]]
    with_second = sequence(*trailing, nonempty(members[half:]))
    return either([with_second, nonempty(members[:half])])


@cache
def any_value(depth: int) -> Piece:
    """Any JSON value of at most `depth` levels of arrays and objects."""
    scalars = [STRING, NUMBER, BOOLEAN, NULL]
    if depth == 0:
        return either(scalars)
    item = any_value(depth - 1)
    return either(
        [*scalars, array_of([], item, 0, None), map_of(sequence(STRING, COLON, item), 0, None)]
    )
