"""Regular expressions of clients, translated: what a string's value must match, in; a pattern, out.

Read as ECMAScript does, with ASCII classes; what has another meaning there than in Python, or
cannot be an automaton, is refused. Every length and every class is known before text is built.
"""

import re
import warnings
from collections.abc import Callable
from functools import cache, lru_cache
from math import prod
from re import _constants as codes  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any, NamedTuple

from outlines.types import dsl

from app.tools.gate import characters
from app.tools.gate.automaton import TooLarge, measure
from app.tools.gate.characters import Ranges, complement, joined
from app.tools.gate.grammar import Piece, literal, sequence

MAX_KEPT = 128
"""Translations, of clients' expressions too; each has at most some ten kilobytes."""

CATEGORIES: dict[Any, Ranges] = {
    codes.CATEGORY_DIGIT: characters.DIGITS,
    codes.CATEGORY_NOT_DIGIT: complement(characters.DIGITS),
    codes.CATEGORY_WORD: characters.WORD,
    codes.CATEGORY_NOT_WORD: complement(characters.WORD),
    codes.CATEGORY_SPACE: characters.BLANKS,
    codes.CATEGORY_NOT_SPACE: complement(characters.BLANKS),
}
ANY_TEXT = dsl.KleeneStar(characters.in_json(characters.ANY))

NAMED_GROUP = re.compile(r"(\\.|\[(?:\\.|[^\]\\])*\])|\(\?<(?![=!])", re.DOTALL)
NESTED_SET = re.compile(r"(?<!\\)\[(?:\\.|[^\]\\])*?(?:\[|--|&&|~~|\|\|)")

TOKEN = re.compile(r"\\.|\[\^?\]|\[(?:\\.|[^\]\\])*\]|\{,\d+\}|[()]", re.DOTALL)
"""What tells an opening parenthesis from one that stands for itself."""

MAX_GROUPS = 50
"""Of one expression inside each other: the walks through it recurse."""

WIDE_PLACES = 8
"""Of a class beyond ASCII, which is several bytes long."""

CLASS_PLACES = 100
"""Of a property of Unicode, with its hundreds of ranges."""

Items = list[tuple[Any, Any]]
Spell = Callable[[Ranges], dsl.Term | None]


class Untranslatable(Exception):
    """The expression has something that cannot be enforced; the message says what."""


class Unmatchable(Untranslatable):
    """No text that a reply may have matches the expression."""


class Ambiguous(Untranslatable):
    """ECMAScript, Python and the validator read the expression differently."""


class Branch(NamedTuple):
    """One alternative of an expression, and which of its ends are anchored."""

    items: Items
    left: bool
    right: bool


class Lengths(NamedTuple):
    """How many characters a string may have."""

    least: int
    most: int | None


ANY_LENGTH = Lengths(0, None)


class Matching(NamedTuple):
    """A JSON string in whose value an expression is found."""

    piece: Piece
    exact: bool
    """Whether its lengths are enforced too."""

    effort: int
    """That it took to find the cost."""


@lru_cache(MAX_KEPT)
def string_matching(regex: str, lengths: Lengths = ANY_LENGTH) -> Matching:
    """A JSON string in whose value the expression is found. Raises Untranslatable and TooLarge."""
    branches = [counted(branch, lengths) for branch in branches_of(parse(regex))]
    terms = [anchored(branch) for branch, _ in branches]
    body, effort = measured(terms)
    exact = lengths == ANY_LENGTH or all(exact for _, exact in branches)
    quoted = sequence(literal('"'), body, literal('"'))
    return Matching(quoted._replace(expression=body.term), exact, effort)


@lru_cache(MAX_KEPT)
def text_matching(regex: str) -> Piece:
    """A whole text, not JSON, that matches. Raises Untranslatable and TooLarge."""
    terms = [
        translate(branch.items, characters.in_plain_text) for branch in branches_of(parse(regex))
    ]
    return measured(terms)[0]


def measured(terms: list[dsl.Term]) -> tuple[Piece, int]:
    """One of the terms, and the effort that it took to measure it."""
    term = terms[0] if len(terms) == 1 else dsl.Alternatives(terms)
    cost, effort = measure(term)
    return Piece(term, cost, len(dsl.to_regex(term))), effort


def check_tokens(regex: str) -> None:
    """Raises Ambiguous, and TooLarge where groups are nested too deep."""
    depth = 0
    for token in TOKEN.findall(regex):
        if token in ("[]", "[^]"):
            raise Ambiguous(f"{token} is empty in ECMAScript and the beginning of a set elsewhere")
        if token.startswith("{,"):
            raise Ambiguous(f"{token} is no repeat in ECMAScript and one elsewhere")
        depth += {"(": 1, ")": -1}.get(token, 0)
        if depth > MAX_GROUPS:
            raise TooLarge(f"it has more than {MAX_GROUPS} groups inside each other")


def num_places(regex: str) -> int:
    """Characters with repeats written out, as far as can be told. Raises TooLarge."""
    try:
        return places_in(parse(regex))
    except Untranslatable:
        repeats = re.findall(r"\{(\d{1,9})(?:,(\d{0,9}))?\}", regex)
        times = (max(int(least), int(most or 0), 1) for least, most in repeats)
        classes = CLASS_PLACES * len(re.findall(r"\\[pP]", regex))
        return (WIDE_PLACES * len(regex) + classes) * prod(times)


def places_in(items: Items) -> int:
    return sum(places_in_one(code, value) for code, value in items)


def places_in_one(code: Any, value: Any) -> int:
    match code, value:
        case (codes.MAX_REPEAT | codes.MIN_REPEAT | codes.POSSESSIVE_REPEAT, (least, most, inner)):
            times = least + 1 if most is codes.MAXREPEAT else most
            return max(int(times), 1) * places_in(list(inner))
        case codes.SUBPATTERN, (_, _, _, inner):
            return places_in(list(inner))
        case codes.BRANCH, (_, inner):
            return sum(places_in(list(each)) for each in inner)
    ranges = ranges_of(code, value)
    return WIDE_PLACES if ranges and ranges[-1][1] > characters.LAST_ASCII else 1


def parse(regex: str) -> Items:
    check_tokens(regex)
    if NESTED_SET.search(regex):
        raise Untranslatable("it has a set inside a set")
    named = NAMED_GROUP.sub(lambda found: found[1] or "(?P<", regex)
    try:
        with warnings.catch_warnings(action="ignore"):
            parsed = parser.parse(named, re.ASCII)
    except (re.error, RecursionError, OverflowError) as error:
        raise Untranslatable(f"it cannot be read ({str(error)[:80]})") from error
    if parsed.state.flags & ~(re.ASCII | re.UNICODE):
        raise Untranslatable("it sets flags")
    return list(parsed)


def branches_of(items: Items) -> list[Branch]:
    """The alternatives at the top of an expression, without their anchors."""
    left = bool(items) and items[0] == (codes.AT, codes.AT_BEGINNING)
    items = items[1:] if left else items
    right = bool(items) and items[-1] == (codes.AT, codes.AT_END)
    items = items[:-1] if right else items
    if len(items) == 1:
        match items[0]:
            case (codes.SUBPATTERN, (_, 0, 0, inner)):
                below = branches_of(list(inner))
            case (codes.BRANCH, (_, inner)):
                below = [branch for each in inner for branch in branches_of(list(each))]
            case _:
                return [Branch(items, left, right)]
        return [Branch(each.items, each.left or left, each.right or right) for each in below]
    return [Branch(items, left, right)]


def counted(branch: Branch, lengths: Lengths) -> tuple[Branch, bool]:
    """The branch within the lengths, where it is one class repeated; whether that was possible."""
    if not (branch.left and branch.right and len(branch.items) == 1):
        return branch, False
    code, value = branch.items[0]
    if code not in (codes.MAX_REPEAT, codes.MIN_REPEAT) or len(value[2]) != 1:
        return branch, False
    if ranges_of(*value[2][0]) is None:
        return branch, False
    least = max(value[0], lengths.least)
    most = value[1] if lengths.most is None else min(value[1], lengths.most)
    if least > most:
        raise Unmatchable("no text of the allowed length matches it")
    return Branch([(codes.MAX_REPEAT, (least, most, value[2]))], True, True), True


def anchored(branch: Branch) -> dsl.Term:
    """With any text around where it is not anchored."""
    items = list(branch.items)
    if not branch.left:
        items[:1] = map(least_of, items[:1])
    if not branch.right:
        items[-1:] = map(least_of, items[-1:])
    terms = [translate(items, characters.in_json)]
    if not branch.left:
        terms.insert(0, ANY_TEXT)
    if not branch.right:
        terms.append(ANY_TEXT)
    return dsl.Sequence(terms)


def least_of(item: tuple[Any, Any]) -> tuple[Any, Any]:
    """A repeat beside any text: more than the least of it says nothing."""
    code, value = item
    if code in (codes.MAX_REPEAT, codes.MIN_REPEAT):
        return code, (value[0], value[0], value[2])
    return item


def translate(items: Items, spell: Spell) -> dsl.Term:
    return dsl.Sequence([translate_one(code, value, spell) for code, value in items])


def translate_one(code: Any, value: Any, spell: Spell) -> dsl.Term:
    ranges = ranges_of(code, value)
    if ranges is not None:
        term = spell(ranges)
        if term is None:
            raise Unmatchable("it asks for a character that no reply may have")
        return term
    match code, value:
        case (codes.MAX_REPEAT | codes.MIN_REPEAT, (least, most, inner)):
            return translate_repeat(least, most, translate(list(inner), spell))
        case codes.SUBPATTERN, (_, 0, 0, inner):
            return translate(list(inner), spell)
        case codes.BRANCH, (_, inner):
            return dsl.Alternatives([translate(list(each), spell) for each in inner])
    raise Untranslatable(f"{describe(code)} cannot be enforced")


def translate_repeat(least: int, most: Any, term: dsl.Term) -> dsl.Term:
    if most is codes.MAXREPEAT:
        return dsl.QuantifyMinimum(term, least) if least else dsl.KleeneStar(term)
    return dsl.QuantifyBetween(term, least, most)


def ranges_of(code: Any, value: Any) -> Ranges | None:
    """The characters that an item stands for, if it stands for exactly one."""
    match code:
        case codes.LITERAL:
            return ((value, value),)
        case codes.NOT_LITERAL:
            return complement(((value, value),))
        case codes.ANY:
            return complement(characters.BREAKS)
        case codes.IN:
            return ranges_of_set(value)
    return None


def ranges_of_set(items: Items) -> Ranges:
    negated = items[0][0] is codes.NEGATE
    ranges: list[tuple[int, int]] = []
    for code, value in items[1:] if negated else items:
        match code:
            case codes.LITERAL:
                ranges.append((value, value))
            case codes.RANGE:
                ranges.append(value)
            case codes.CATEGORY:
                ranges.extend(CATEGORIES[value])
    return complement(joined(ranges)) if negated else joined(ranges)


def describe(code: Any) -> str:
    if code in (codes.ASSERT, codes.ASSERT_NOT):
        return "looking around"
    if code in (codes.GROUPREF, codes.GROUPREF_EXISTS):
        return "referring back"
    if code is codes.AT:
        return "an anchor or a boundary inside"
    return "something in it"


DAY = r"(0[1-9]|1[0-9]|2[0-8])"
LEAP = r"([0-9][0-9](0[48]|[2468][048]|[13579][26])|(0[048]|[2468][048]|[13579][26])00)-02-29"
DATE = rf"([0-9]{{4}}-((0[1-9]|1[0-2])-{DAY}|(0[13-9]|1[0-2])-(29|30)|(0[13578]|1[02])-31)|{LEAP})"
HOURS = r"([01][0-9]|2[0-3])"
ZONE = rf"(Z|[+-]{HOURS}:[0-5][0-9])"
TIME = rf"{HOURS}:[0-5][0-9]:[0-5][0-9](\.[0-9]{{1,9}})?{ZONE}"
OF_DAY = r"T([0-9]{1,4}H([0-9]{1,4}M([0-9]{1,4}S)?)?|[0-9]{1,4}M([0-9]{1,4}S)?|[0-9]{1,4}S)"
OF_YEAR = r"[0-9]{1,4}Y([0-9]{1,4}M([0-9]{1,4}D)?)?|[0-9]{1,4}M([0-9]{1,4}D)?|[0-9]{1,4}D"
BYTE = r"(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
LABEL = r"[A-Za-z0-9]+(-[A-Za-z0-9]+)*"
ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
HEX = r"[0-9a-fA-F]"
PATH = r"([A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9a-fA-F]{2})*"
QUERY = r"([A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9a-fA-F]{2})*"
WEB = rf"https?://{LABEL}(\.{LABEL})*(:[0-9]{{1,4}})?(/{PATH})?(\?{QUERY})?(#{QUERY})?"
URI = rf"({WEB}|(urn|mailto|tel|data|ftp|file):[A-Za-z0-9._~+@:/-]+)"
PAIR = f"{HEX}{{1,4}}"
IPV6 = "|".join(
    [
        rf"({PAIR}:){{7}}{PAIR}",
        *(
            rf"({PAIR}(:{PAIR}){{0,{before}}})?::({PAIR}(:{PAIR}){{0,{5 - before}}})?"
            for before in range(6)
        ),
    ]
)
EMAIL = rf"{ATOM}(\.{ATOM})*@{LABEL}(\.{LABEL})*"
HOSTNAME = rf"{LABEL}(\.{LABEL})*"
JSON_POINTER = r"(/([^~/\x00-\x1f]|~[01])*)*"

FORMATS = {
    "date": DATE,
    "time": TIME,
    "date-time": f"{DATE}T{TIME}",
    "duration": f"P(({OF_YEAR})({OF_DAY})?|{OF_DAY}|[0-9]{{1,4}}W)",
    "email": EMAIL,
    "idn-email": EMAIL,
    "hostname": HOSTNAME,
    "idn-hostname": HOSTNAME,
    "ipv4": rf"{BYTE}(\.{BYTE}){{3}}",
    "ipv6": f"({IPV6})",
    "uuid": f"{HEX}{{8}}(-{HEX}{{4}}){{3}}-{HEX}{{12}}",
    "uri": URI,
    "uri-reference": URI,
    "uri-template": URI,
    "iri": URI,
    "iri-reference": URI,
    "json-pointer": JSON_POINTER,
    "relative-json-pointer": rf"(0|[1-9][0-9]{{0,4}})(#|{JSON_POINTER})",
}
"""Some of the strings of each format: enough to write any, and every one of them valid."""

CHECKED_FORMATS = frozenset(
    {"email", "idn-email", "hostname", "idn-hostname", "uri", "uri-reference", "uri-template"}
    | {"iri", "iri-reference", "regex"}
)
"""Their limits on lengths, and what `regex` is, are not in the pattern."""


@cache
def string_of_format(name: str) -> Piece:
    return string_matching(f"^{FORMATS[name]}$").piece
