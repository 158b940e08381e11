"""What the keywords of a case say about strings, as a pattern."""

from typing import Any

from app.tools.gate import grammar, strings
from app.tools.gate.automaton import TooLarge
from app.tools.gate.case import Builder, Case, limits
from app.tools.gate.cost import too_complex, unsupported
from app.tools.gate.grammar import Piece


def string_piece(gate: Builder, case: Case) -> Piece:
    least, most = limits(case, "minLength", "maxLength")
    lengths = strings.Lengths(least, most)
    counts = [place for _, place in case.values("minLength") + case.values("maxLength")]
    patterns, formats = case.values("pattern"), known_formats(case)
    for number, (regex, place) in enumerate(patterns):
        matching = try_pattern(gate, regex, lengths, place)
        if matching is not None:
            rest = [at for _, at in patterns[:number] + patterns[number + 1 :] + formats]
            gate.checked.update(rest, () if matching.exact else counts)
            return matching.piece
    gate.checked.update(place for _, place in patterns)
    for name, place in formats:
        if name in strings.FORMATS:
            others = [at for _, at in formats if at != place or name in strings.CHECKED_FORMATS]
            gate.checked.update(others, counts)
            return strings.string_of_format(name)
    gate.checked.update(place for _, place in formats)
    return grammar.string(least, most)


def known_formats(case: Case) -> list[tuple[Any, str]]:
    """Those that the validator knows; others are annotations."""
    known = strings.FORMATS.keys() | strings.CHECKED_FORMATS
    return [each for each in case.values("format") if each[0] in known]


def try_pattern(
    gate: Builder, regex: str, lengths: strings.Lengths, place: str
) -> strings.Matching | None:
    """None if only the validator can tell what matches. Raises Refusal."""
    try:
        matching = strings.string_matching(regex, lengths)
    except TooLarge as error:
        raise too_complex(place, str(error)) from error
    except (strings.Unmatchable, strings.Ambiguous) as error:
        raise unsupported(place, str(error)) from error
    except strings.Untranslatable:
        return None
    gate.try_hard(matching.effort, place)
    return matching
