"""How large the automaton of a client's regular expression is, found out within a bounded effort.

Repeats that are counted multiply positions, and some expressions need a state for each set of
positions: both are noticed here instead of in the compiler.
"""

from collections.abc import Iterator

from outlines.types import dsl

from app.tools.gate.characters import LAST_ASCII, LETTERS, Characters, Ranges, common
from app.tools.gate.cost import BUDGET, LETTER_STATE, STATE, WIDE_STATES

MAX_POSITIONS = 2000
MAX_EFFORT = 30_000
"""Places looked at in finding the states: some 50 ms."""

FEW_LETTERS = 12

Split = tuple[int, ...]
Step = tuple[Ranges, int]


class TooLarge(Exception):
    """The automaton is beyond one of the limits, which the message names."""


def positions(term: dsl.Term) -> int:
    """Characters of the expression when its repeats are written out."""
    match term:
        case dsl.String():
            return len(str(term.value))
        case Characters():
            return 1
        case dsl.Sequence() | dsl.Alternatives():
            return 1 + sum(map(positions, term.terms))
        case dsl.QuantifyBetween():
            return 1 + max(int(term.max_count), 1) * positions(term.term)
        case dsl.QuantifyMinimum():
            return 1 + (int(term.min_count) + 1) * positions(term.term)
        case _:
            return 1 + positions(term.term)


def measure(term: dsl.Term) -> tuple[float, int]:
    """What it costs to compile, by its states, and the effort to find that. Raises TooLarge."""
    if positions(term) > MAX_POSITIONS:
        raise TooLarge(f"it has more than {MAX_POSITIONS} places when its repeats are written out")
    automaton = Automaton(term)
    return automaton.cost(), automaton.effort


class Automaton:
    """Of one expression: first with a place for each character, then with a state for each set."""

    def __init__(self, term: dsl.Term) -> None:
        self.effort = 0
        self.nodes: list[Split | Step] = [()]
        self.start = self.build(term, 0)
        self.reach: dict[int, frozenset[int]] = {}

    def add(self, node: Split | Step) -> int:
        self.nodes.append(node)
        return len(self.nodes) - 1

    def build(self, term: dsl.Term, then: int) -> int:
        """The place where the term begins if it is to go on at `then`."""
        match term:
            case dsl.String():
                for character in reversed(term.value):
                    then = self.add((((ord(character), ord(character)),), then))
                return then
            case Characters():
                return self.add((term.ranges, then))
            case dsl.Sequence():
                for each in reversed(term.terms):
                    then = self.build(each, then)
                return then
            case dsl.Alternatives():
                return self.split(*(self.build(each, then) for each in term.terms))
            case _:
                return self.build_repeat(term, then)

    def build_repeat(self, term: dsl.Term, then: int) -> int:
        least, most = bounds_of(term)
        if most is None:
            loop = self.split()
            self.nodes[loop] = (self.build(term.term, loop), then)
            start = loop
        else:
            start = then
            for _ in range(most - least):
                start = self.split(self.build(term.term, start), then)
        for _ in range(least):
            start = self.build(term.term, start)
        return start

    def split(self, *ways: int) -> int:
        return self.add(ways)

    def is_step(self, place: int) -> bool:
        node = self.nodes[place]
        return len(node) == 2 and isinstance(node[0], tuple)

    def closure(self, place: int) -> frozenset[int]:
        """The characters that may come at a place, and 0 for the end."""
        if place not in self.reach:
            found, waiting, seen = set(), [place], {place}
            while waiting:
                each = waiting.pop()
                self.spend(1)
                if each == 0 or self.is_step(each):
                    found.add(each)
                    continue
                ways = [way for way in self.nodes[each] if way not in seen]
                seen.update(ways)  # type: ignore[arg-type]
                waiting.extend(ways)  # type: ignore[arg-type]
            self.reach[place] = frozenset(found)
        return self.reach[place]

    def spend(self, effort: int) -> None:
        self.effort += effort
        if self.effort > MAX_EFFORT:
            raise TooLarge("its automaton grows too fast")

    def cost(self) -> float:
        first = self.closure(self.start)
        known, waiting, total = {first}, [first], 0.0
        while waiting:
            state = waiting.pop()
            fresh = {target for target in self.targets(state) if target not in known}
            known |= fresh
            waiting.extend(fresh)
            total += self.state_cost(state)
            if total > BUDGET:
                raise TooLarge(f"its automaton alone costs more than the budget of {BUDGET}")
        return total

    def targets(self, state: frozenset[int]) -> Iterator[frozenset[int]]:
        """Each state that one character leads to."""
        edges: dict[int, list[tuple[int, int]]] = {}
        for place in state - {0}:
            ranges, then = self.nodes[place]
            for low, high in ranges:  # type: ignore[union-attr]
                edges.setdefault(low, []).append((1, then))
                edges.setdefault(high + 1, []).append((-1, then))
        active: dict[int, int] = {}
        found = set()
        for point in sorted(edges):
            for change, then in edges[point]:
                active[then] = active.get(then, 0) + change
            places = frozenset(then for then, count in active.items() if count > 0)
            self.spend(1 + len(active))
            if places and places not in found:
                found.add(places)
                reached = frozenset().union(*map(self.closure, places))
                self.spend(len(reached))
                yield reached

    def state_cost(self, state: frozenset[int]) -> float:
        """By how many tokens may come: of any character, of letters, or of few."""
        ranges = [self.nodes[place][0] for place in state if place]
        if any(each[-1][1] > LAST_ASCII for each in ranges):  # type: ignore[index]
            return WIDE_STATES
        letters = (num_letters(each) for each in ranges)  # type: ignore[arg-type]
        return LETTER_STATE if max(letters, default=0) > FEW_LETTERS else STATE


def num_letters(ranges: Ranges) -> int:
    return sum(high - low + 1 for low, high in common(ranges, LETTERS))


def bounds_of(term: dsl.Term) -> tuple[int, int | None]:
    match term:
        case dsl.QuantifyBetween():
            return term.min_count, term.max_count
        case dsl.QuantifyMinimum():
            return term.min_count, None
        case dsl.Optional():
            return 0, 1
        case _:
            return 0, None
