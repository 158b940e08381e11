"""A random text that a pattern allows, found as a model would: token by token over an index."""

import random
from functools import cache
from typing import NamedTuple

import outlines_core

END = 256
LONG = 300
"""Bytes after which the walk goes to the nearest end."""


class Automaton(NamedTuple):
    """Of one pattern: where it starts, its steps, and how far each state is from an end."""

    start: int
    steps: dict[int, dict[int, int]]
    distances: dict[int, int]


@cache
def bytes_alone() -> outlines_core.Vocabulary:
    return outlines_core.Vocabulary(END, {bytes([byte]): [byte] for byte in range(256)})


@cache
def automaton(pattern: str) -> Automaton:
    index = outlines_core.Index("\x01" + pattern, bytes_alone())
    steps = {
        state: {byte: then for byte, then in ways.items() if byte != END}
        for state, ways in index.get_transitions().items()
    }
    start = steps[index.get_initial_state()][1]
    return Automaton(start, steps, distances(steps, index.get_final_states()))


def distances(steps: dict[int, dict[int, int]], final: set[int]) -> dict[int, int]:
    before: dict[int, set[int]] = {}
    for state, ways in steps.items():
        for then in ways.values():
            before.setdefault(then, set()).add(state)
    found, latest = dict.fromkeys(final, 0), list(final)
    for state in latest:
        for previous in before.get(state, set()) - found.keys():
            found[previous] = found[state] + 1
            latest.append(previous)
    return found


def walk(pattern: str, generator: random.Random, eager: float = 0.3) -> str:
    """A text that matches. `eager`: how probable it is to end where it may."""
    state, steps, far = automaton(pattern)
    text = bytearray()
    while True:
        ways = steps.get(state, {})
        if not ways or (far[state] == 0 and (len(text) > LONG or generator.random() < eager)):
            return text.decode()
        allowed = sorted(ways)
        if len(text) > LONG:
            allowed = [min(allowed, key=lambda byte: far[ways[byte]])]
        byte = generator.choice(preferred(allowed, generator))
        text.append(byte)
        state = ways[byte]


def preferred(ways: list[int], generator: random.Random) -> list[int]:
    """Often what closes and separates, and mostly ASCII: there are many more ways than these."""
    closing = [byte for byte in ways if byte in b'"]},:.-@/']
    if closing and generator.random() < 0.4:
        return closing
    plain = [byte for byte in ways if byte < 128]
    return plain if plain and generator.random() < 0.9 else ways
