"""What the keywords of a case say about numbers, as a pattern."""

from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from app.tools.gate import grammar, ranges, strings
from app.tools.gate.automaton import TooLarge
from app.tools.gate.case import Builder, Case, Unsatisfiable
from app.tools.gate.cost import too_complex, unsupported
from app.tools.gate.grammar import Piece
from app.tools.gate.ranges import Bound

LARGEST = Decimal(10) ** 30
"""Bounds beyond it are not written out in digits."""

BOUNDS = ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum")


def number_piece(gate: Builder, case: Case, kind: str) -> Piece:
    low, high = lowest(case), highest(case)
    factors = case.values("multipleOf")
    zeros = 0
    for factor, place in factors:
        if is_power_of_ten(factor):
            zeros = max(zeros, len(str(int(factor))) - 1)
        else:
            gate.checked.add(place)
    whole = kind == "integer" or any(factor == int(factor) for factor, _ in factors)
    if low is None and high is None and not zeros:
        return grammar.INTEGER if whole else grammar.NUMBER
    pattern = whole_numbers(low, high, zeros) if whole else ranges.numbers(low, high)
    if pattern is None:
        raise Unsatisfiable(case.pointer, "no number lies between its bounds")
    try:
        return strings.text_matching(pattern)
    except TooLarge as error:
        raise too_complex(bound_of(case), f"its bounds: {error}") from error


def bound_of(case: Case) -> str:
    """The place of the first bound of a number."""
    places = [place for keyword in BOUNDS for _, place in case.values(keyword)]
    return next(iter(places), case.pointer)


def is_power_of_ten(factor: float) -> bool:
    return factor >= 1 and factor == int(factor) and str(int(factor)).strip("0") == "1"


def lowest(case: Case) -> Bound | None:
    bounds = [
        (Bound(decimal(value, ROUND_CEILING), True), at) for value, at in case.values("minimum")
    ]
    bounds += [
        (Bound(decimal(value, ROUND_CEILING), False), at)
        for value, at in case.values("exclusiveMinimum")
    ]
    strongest = max(bounds, key=lambda each: (each[0].value, not each[0].included), default=None)
    if strongest is None or strongest[0].value < -LARGEST:
        return None
    if strongest[0].value > LARGEST:
        raise unsupported(strongest[1], f"it is larger than {LARGEST:.0e}")
    check_order(strongest, case)
    return strongest[0]


def highest(case: Case) -> Bound | None:
    bounds = [
        (Bound(decimal(value, ROUND_FLOOR), True), at) for value, at in case.values("maximum")
    ]
    bounds += [
        (Bound(decimal(value, ROUND_FLOOR), False), at)
        for value, at in case.values("exclusiveMaximum")
    ]
    strongest = min(bounds, key=lambda each: (each[0].value, each[0].included), default=None)
    if strongest is None or strongest[0].value > LARGEST:
        return None
    if strongest[0].value < -LARGEST:
        raise unsupported(strongest[1], f"it is smaller than {-LARGEST:.0e}")
    return strongest[0]


def check_order(low: tuple[Bound, str], case: Case) -> None:
    high = highest(case)
    both = high is not None and high.included and low[0].included
    if high is not None and (
        low[0].value > high.value or (low[0].value == high.value and not both)
    ):
        raise unsupported(low[1], "no number lies between the bounds")


def decimal(value: float, rounding: str) -> Decimal:
    """Exactly what the client wrote, but for decimals that no double has."""
    exact = Decimal(str(value))
    if int(exact.as_tuple().exponent) < -30 and abs(exact) < LARGEST:
        return exact.quantize(Decimal("1e-30"), rounding=rounding)
    return exact


def whole_numbers(low: Bound | None, high: Bound | None, zeros: int) -> str | None:
    step = 10**zeros
    least = most = None
    if low is not None:
        least = int(low.value.to_integral_value(ROUND_CEILING))
        least += not low.included and least == low.value
        least = -(-least // step)
    if high is not None:
        most = int(high.value.to_integral_value(ROUND_FLOOR))
        most -= not high.included and most == high.value
        most = most // step
    return ranges.integers(least, most, zeros)
