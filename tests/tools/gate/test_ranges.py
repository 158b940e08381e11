import random
import re
from decimal import Decimal

import pytest

from app.tools.gate.ranges import Bound, integers, numbers


def within(value: Decimal, low: Bound | None, high: Bound | None) -> bool:
    above = low is None or value > low.value or (low.included and value == low.value)
    below = high is None or value < high.value or (high.included and value == high.value)
    return above and below


def some_bound(random: random.Random) -> Bound | None:
    value = Decimal(random.randint(-(10**5), 10**5)).scaleb(-random.randint(0, 3))
    return random.choice([None, Bound(value, True), Bound(value, False)])


@pytest.mark.parametrize("seed", range(300))
def test_integers_are_exact(seed: int) -> None:
    generator = random.Random(seed)
    low = generator.choice([None, generator.randint(-(10 ** generator.randint(1, 9)), 10**6)])
    high = generator.choice(
        [None, (low or 0) + generator.randint(0, 10 ** generator.randint(0, 9))]
    )
    pattern = re.compile(integers(low, high) or "(?!)")
    edges = [end + step for end in (low, high) if end is not None for step in (-1, 0, 1)]

    for value in [*edges, 0, 1, -1, *(generator.randint(-(10**7), 10**7) for _ in range(20))]:
        allowed = (low is None or value >= low) and (high is None or value <= high)
        assert bool(pattern.fullmatch(str(value))) == allowed, (low, high, value)
    assert not any(map(pattern.fullmatch, ("", "-0", "01", "-", "1.0", "+1")))


@pytest.mark.parametrize("seed", range(300))
def test_numbers_are_exact_however_they_are_written(seed: int) -> None:
    generator = random.Random(seed)
    low, high = some_bound(generator), some_bound(generator)
    pattern = re.compile(numbers(low, high) or "(?!)")
    edges = [
        bound.value + Decimal(step).scaleb(-places)
        for bound in (low, high)
        if bound
        for step in (-1, 0, 1)
        for places in (0, 1, 2, 5)
    ]

    for value in [*edges, *(Decimal(generator.randint(-999, 999)).scaleb(-1) for _ in range(9))]:
        for text in (f"{value:f}", f"{value.normalize():f}"):
            if value:
                found = bool(pattern.fullmatch(text))
                assert found == within(value, low, high), (low, high, text)


def test_multiples_of_a_power_of_ten_end_in_zeros() -> None:
    pattern = re.compile(integers(-2, 12, zeros=2) or "")

    assert [value for value in range(-999, 2000) if pattern.fullmatch(str(value))] == [
        100 * step for step in range(-2, 13)
    ]


def test_a_range_without_a_number_has_no_pattern() -> None:
    assert integers(3, 2) is None
    assert numbers(Bound(Decimal(1), False), Bound(Decimal(1), True)) is None
