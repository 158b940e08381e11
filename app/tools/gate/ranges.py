"""Numbers between bounds, written in digits: exact, without an exponent."""

from decimal import Decimal
from typing import NamedTuple

MAX_DIGITS = 19
"""Of an integer, as in 64 bits; more only where a bound has more."""

MAX_DECIMALS = 16


class Bound(NamedTuple):
    """One end of a range of numbers."""

    value: Decimal
    included: bool


def integers(low: int | None, high: int | None, zeros: int = 0) -> str | None:
    """Integers from `low` to `high`, followed by some zeros; None if there is none."""
    suffix = "0" * zeros
    digits = max(MAX_DIGITS - zeros, *(len(str(abs(end or 0))) for end in (low, high)))
    ways = []
    if (low is None or low <= 0) and (high is None or high >= 0):
        ways.append("0")
    most = 10**digits - 1
    for sign, least, largest in (
        ("", 1 if low is None else max(low, 1), most if high is None else high),
        ("-", 1 if high is None else max(-high, 1), most if low is None else -low),
    ):
        if least <= largest:
            ways.append(f"{sign}({naturals(least, largest)}){suffix}")
    return "|".join(ways) if ways else None


def naturals(low: int, high: int) -> str:
    """Integers from `low` to `high`, both at least 0."""
    ways = []
    for length in range(len(str(low)), len(str(high)) + 1):
        first = max(low, 10 ** (length - 1) if length > 1 else 0)
        ways.append((str(first), str(min(high, 10**length - 1))))
    return join_full(ways)


def join_full(ways: list[tuple[str, str]]) -> str:
    """Ranges of digits of one length each; whole ones that follow each other become one."""
    whole = [len(first) for first, last in ways if is_whole(first, last)]
    parts = [same_length(first, last) for first, last in ways if not is_whole(first, last)]
    if whole:
        parts.append(f"[1-9][0-9]{{{min(whole) - 1},{max(whole) - 1}}}")
    return "|".join(parts)


def is_whole(first: str, last: str) -> bool:
    return first == "1" + "0" * (len(first) - 1) and set(last) == {"9"}


def same_length(low: str, high: str) -> str:
    """Digits from `low` to `high`, which are equally long."""
    if not low:
        return ""
    rest = len(low) - 1
    if set(low[1:]) <= {"0"} and set(high[1:]) <= {"9"}:
        return digit(int(low[0]), int(high[0])) + (f"[0-9]{{{rest}}}" if rest else "")
    if low[0] == high[0]:
        return low[0] + group(same_length(low[1:], high[1:]))
    ways = [low[0] + group(same_length(low[1:], "9" * rest))]
    if int(low[0]) + 1 < int(high[0]):
        ways.append(digit(int(low[0]) + 1, int(high[0]) - 1) + f"[0-9]{{{rest}}}")
    ways.append(high[0] + group(same_length("0" * rest, high[1:])))
    return "|".join(ways)


def digit(first: int, last: int) -> str:
    return str(first) if first == last else f"[{first}-{last}]"


def group(pattern: str) -> str:
    return f"({pattern})" if "|" in pattern else pattern


def numbers(low: Bound | None, high: Bound | None) -> str | None:
    """Numbers between the bounds, with decimals; None if there is none."""
    ways = []
    positive = not_negative(clip(low), high)
    if positive is not None:
        ways.append(positive)
    negative = not_negative(clip(mirror(high), included=False), mirror(low))
    if negative is not None:
        ways.append(f"-({negative})")
    return "|".join(ways) if ways else None


def mirror(bound: Bound | None) -> Bound | None:
    return None if bound is None else Bound(-bound.value, bound.included)


def clip(low: Bound | None, included: bool = True) -> Bound:
    """At least 0, or more than 0."""
    zero = Bound(Decimal(0), included)
    return zero if low is None or low.value < 0 or low == Bound(zero.value, True) else low


def not_negative(low: Bound, high: Bound | None) -> str | None:
    if high is not None and (high.value < low.value or high.value < 0):
        return None
    whole, first = parts(low.value)
    if high is None:
        ways = [with_decimals(str(whole), Edge(first, low.included), None)]
        ways.append(any_decimals(naturals(whole + 1, 10 ** max(15, len(str(whole)) + 1) - 1)))
        return "|".join(way for way in ways if way)
    last_whole, last = parts(high.value)
    least, most = Edge(first, low.included), Edge(last, high.included)
    if whole == last_whole:
        return with_decimals(str(whole), least, most)
    between = naturals(whole + 1, last_whole - 1) if whole + 1 < last_whole else None
    ways = [
        with_decimals(str(whole), least, None),
        any_decimals(between) if between is not None else None,
        with_decimals(str(last_whole), None, most),
    ]
    return "|".join(way for way in ways if way) or None


def parts(value: Decimal) -> tuple[int, str]:
    """The integer part and the decimals, without zeros at their end."""
    whole, _, decimals = f"{value:f}".partition(".")
    return int(whole), decimals.rstrip("0")


def any_decimals(wholes: str) -> str:
    return rf"({wholes})(\.[0-9]{{1,{MAX_DECIMALS}}})?"


class Edge(NamedTuple):
    """Decimals that are the first or the last of a range."""

    digits: str
    included: bool


def with_decimals(whole: str, low: Edge | None, high: Edge | None) -> str | None:
    """One integer part and decimals from `low` to `high`."""
    room = max(MAX_DECIMALS, *(len(edge.digits) + 1 if edge else 0 for edge in (low, high)))
    decimals = some_decimals(low, high, room)
    if not may_end(low, high):
        return None if decimals is None else rf"{whole}\.({decimals})"
    return whole if decimals is None else rf"{whole}(\.({decimals}))?"


def may_end(low: Edge | None, high: Edge | None) -> bool:
    """Whether no further digit, which is as good as zeros, lies between the edges."""
    above = low is None or low == Edge("", True)
    below = high is None or high.digits != "" or high.included
    return above and below


def some_decimals(low: Edge | None, high: Edge | None, room: int) -> str | None:
    """At least one digit, between the edges; None if there is none."""
    if low == Edge("", True):
        low = None
    if room == 0:
        return None
    if low is None and high is None:
        return f"[0-9]{{1,{room}}}"
    groups: dict[tuple[Edge | None, Edge | None], list[int]] = {}
    for figure in range(10):
        edges = after(figure, low, high)
        if edges is not None:
            groups.setdefault(edges, []).append(figure)
    ways = [
        way
        for (lower, upper), figures in groups.items()
        if (way := with_digit(digit(figures[0], figures[-1]), lower, upper, room - 1))
    ]
    return "|".join(ways) if ways else None


def with_digit(figure: str, low: Edge | None, high: Edge | None, room: int) -> str | None:
    more = some_decimals(low, high, room)
    if not may_end(low, high):
        return None if more is None else figure + group(more)
    return figure if more is None else f"{figure}({more})?"


def after(
    figure: int, low: Edge | None, high: Edge | None
) -> tuple[Edge | None, Edge | None] | None:
    """The edges that are left behind a digit; None if it is beyond one of them."""
    if low is not None:
        lowest = int(low.digits[:1] or "0")
        if figure < lowest:
            return None
        low = None if figure > lowest else Edge(low.digits[1:], low.included)
    if high is not None:
        highest = int(high.digits[:1] or "0")
        if figure > highest:
            return None
        high = None if figure < highest else Edge(high.digits[1:], high.included)
        if high == Edge("", False):
            return None
    return low, high
