"""Sets of characters as ranges of code points, and how a pattern spells them."""

from collections.abc import Iterable

from outlines.types import dsl

Ranges = tuple[tuple[int, int], ...]
"""Inclusive, ascending, apart from each other."""

LAST_ASCII = 0x7F
LAST = 0x3FFFF
"""Beyond are private and unassigned characters; leaving them out saves two states of nine."""


def joined(ranges: Iterable[tuple[int, int]]) -> Ranges:
    result: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if result and first <= result[-1][1] + 1:
            result[-1] = (result[-1][0], max(last, result[-1][1]))
        else:
            result.append((first, last))
    return tuple(result)


def complement(ranges: Ranges) -> Ranges:
    known = [(first, min(last, LAST)) for first, last in ranges if first <= LAST]
    edges = [-1, *(edge for pair in known for edge in pair), LAST + 1]
    gaps = zip(edges[::2], edges[1::2], strict=True)
    return tuple((low + 1, high - 1) for low, high in gaps if low + 1 <= high - 1)


def common(one: Ranges, other: Ranges) -> Ranges:
    return complement(joined(complement(one) + complement(other)))


def of(text: str) -> Ranges:
    return joined((ord(character), ord(character)) for character in text)


SURROGATES: Ranges = ((0xD800, 0xDFFF),)
CONTROLS: Ranges = ((0, 0x1F), (0x7F, 0x7F))
DIGITS: Ranges = ((48, 57),)
WORD: Ranges = ((48, 57), (65, 90), (95, 95), (97, 122))
LETTERS: Ranges = ((65, 90), (97, 122))
BREAKS: Ranges = of("\n\r\u2028\u2029")
BLANKS: Ranges = of(
    "\t\n\v\f\r \u00a0\u1680\u2028\u2029\u202f\u205f\u3000\ufeff"
    + "".join(chr(point) for point in range(0x2000, 0x200B))
)
ANY: Ranges = ((0, LAST),)

PLAIN: Ranges = complement(joined(CONTROLS + SURROGATES))
"""What plain text may hold, beside line breaks and tabs."""

IN_STRING: Ranges = common(PLAIN, complement(of('"\\')))
"""What stands for itself in a JSON string."""

ESCAPES = {
    '"': '\\"',
    "\\": "\\\\",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
}


class Characters(dsl.Regex):  # type: ignore[misc]
    """One character of a set."""

    def __init__(self, ranges: Ranges) -> None:
        super().__init__("[" + "".join(map(spell_range, ranges)) + "]")
        self.ranges = ranges


def spell_range(pair: tuple[int, int]) -> str:
    first, last = pair
    return spell_point(first) + ("" if first == last else f"-{spell_point(last)}")


def spell_point(point: int) -> str:
    character = chr(point)
    if point < 0x21 or point == 0x7F:
        return f"\\x{point:02x}"
    if character.isalnum() or point > LAST_ASCII or character in "<>":
        return character  # Rust reads \< and \> as the edges of a word
    return f"\\{character}"


def in_json(ranges: Ranges) -> dsl.Term | None:
    """One character of the set, as it stands in a JSON string; None if none can."""
    escapes = [dsl.String(spelt) for each, spelt in ESCAPES.items() if common(ranges, of(each))]
    bare = common(ranges, IN_STRING)
    terms = [*([Characters(bare)] if bare else []), *escapes]
    return dsl.either(*terms) if terms else None


def in_plain_text(ranges: Ranges) -> dsl.Term | None:
    """One character of the set, as it stands in a reply that is no JSON."""
    kept = common(ranges, joined(PLAIN + of("\t\n\r")))
    return Characters(kept) if kept else None
