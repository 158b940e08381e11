"""A pattern to an index file, in a child process that may be killed at any time.

Imports little: a child that was killed is replaced by one that has to start.
"""

import os
import resource
import signal
from array import array
from bisect import bisect_left
from collections.abc import Collection, Iterable
from pathlib import Path

import outlines_core

from app.engine.constraints.automaton import (
    INSIDE_STRING,
    LETTER,
    QUOTE,
    SENTINEL,
    Bytewise,
    CopiedString,
)
from app.engine.constraints.store import (
    UNCOUNTED,
    CompiledPattern,
    InsideStrings,
    index_key,
    index_store,
    string_store,
    vocabulary_path,
    write_whole,
)
from app.engine.constraints.vocabulary import decode_vocabulary

MANY_TOKENS = 512
"""States that allow more have their mask stored: computing it takes 0.2 ms or more."""

STEPS_PER_STATE = 2000
"""Steps along known tokens that are worth saving outlines-core a state: 0.5 ms of 2."""

MAX_BEGINNINGS = 2**20

NICENESS = 5


class Compilation:
    """The vocabulary, ready in this process for one pattern after the other.

    outlines-core tries every token in every state: with 130,000 tokens 2 ms a state, however few
    of them fit. Nearly all of that can be saved: the inside of a free string is the same automaton
    in every pattern and is compiled once; elsewhere, few tokens without a quotation mark fit, and
    they are found by spelling. What is left to try is small.
    """

    def __init__(self, vocabulary: bytes, cache: Path) -> None:
        self.known = known = decode_vocabulary(vocabulary)
        self.cache = cache
        self.store = index_store(cache)
        self.sentinel = known.sentinel
        self.words = Words([token for token in known.ids if QUOTE not in token])
        self.everything = self.vocabulary(known.ids)
        self.inside = Bytewise(SENTINEL.decode() + INSIDE_STRING)
        self.anywhere = {token for token in known.ids if QUOTE in token} | self.steps()
        """Tokens that lead out of strings, and bytes that lead to every state there."""

        self.write_common()

    def vocabulary(self, tokens: Iterable[bytes]) -> outlines_core.Vocabulary:
        """Of these tokens and the sentinel."""
        ids = {token: self.known.ids[token] for token in tokens} | {SENTINEL: [self.sentinel]}
        return outlines_core.Vocabulary(self.known.eos_token_id, ids)

    def write_common(self) -> None:
        """Write what all patterns need beside their index, unless it is there."""
        path = vocabulary_path(self.cache, self.known.digest)
        if not path.exists():
            write_whole(path, self.known.encoded)
        store, key = string_store(self.cache), index_key(self.known.digest, INSIDE_STRING)
        if not store.touch(key):
            words = self.vocabulary(self.words.sorted)
            pattern = self.compiled(INSIDE_STRING, self.inside, words)
            store.put(key, InsideStrings(pattern, self.characters()))

    def steps(self) -> set[bytes]:
        """Bytes that lead to every place inside of a string, and on from there."""
        ways = {byte for way in self.inside.ways().values() for byte in way}
        onward = {min(targets) for targets in self.inside.next.values() if targets}
        return {bytes([byte]) for byte in ways | onward | {LETTER}} & self.known.ids.keys()

    def characters(self) -> dict[int, bytes]:
        """For each place inside of a string how many characters each token completes."""
        begin = self.inside.begin
        counts = {}
        for place in self.inside.ways().keys() - {self.inside.start, *self.inside.final}:
            counted = bytearray([UNCOUNTED]) * self.sentinel
            for token in self.words.sorted:
                walked = self.inside.walk(place, token, begin)
                if walked is not None:
                    count = min(walked[1] + (walked[0] != begin), UNCOUNTED)
                    for token_id in self.known.ids[token]:
                        counted[token_id] = count
            counts[place] = bytes(counted)
        return counts

    def compile(self, key: str, pattern: str) -> None:
        """Raises ValueError for a pattern that matches nothing or is none."""
        self.write_common()
        bytewise = Bytewise(SENTINEL.decode() + pattern)
        strings = bytewise.copies_of(self.inside)
        within = {state for string in strings for state in string.places}
        words = self.words.found(bytewise, within)
        if words is None:
            self.store.put(key, self.compiled(pattern, bytewise, self.everything))
        else:
            few = self.vocabulary(words | self.anywhere)
            self.store.put(key, self.compiled(pattern, bytewise, few, strings))

    def compiled(
        self,
        pattern: str,
        bytewise: Bytewise,
        vocabulary: outlines_core.Vocabulary,
        strings: list[CopiedString] | None = None,
    ) -> CompiledPattern:
        """`strings`: those whose inside is left out of the vocabulary, with all that is heavy."""
        index = outlines_core.Index(SENTINEL.decode() + pattern, vocabulary)
        return CompiledPattern(
            start=bytewise.next[bytewise.start][SENTINEL[0]],
            needs=bytewise.needs(self.known.ids, self.known.longest),
            masks=self.masks(index, bytewise) if strings is None else {},
            strings=strings or [],
            index=index.__reduce__()[1][0],
        )

    def masks(self, index: outlines_core.Index, bytewise: Bytewise) -> dict[int, bytes]:
        """Masks of the states with many tokens, found by spelling a way to each."""
        ids = self.known.ids | {SENTINEL: [self.sentinel]}
        single = {byte: ids[bytes([byte])][0] for byte in range(256) if bytes([byte]) in ids}
        guide = outlines_core.Guide(index)
        row = array("i", bytes((self.sentinel // 32 + 1) * 4))
        masks = {}
        for state, way in bytewise.ways().items():
            tokens = [single[byte] for byte in way if byte in single]
            guide.reset()
            if len(tokens) == len(way) and (not way or guide.accepts_tokens(tokens)):
                for token_id in tokens:
                    guide.advance(token_id, return_tokens=False)
                guide.write_mask_into(row.buffer_info()[0], len(row), row.itemsize)
                mask = row.tobytes()
                if int.from_bytes(mask, "little").bit_count() > MANY_TOKENS:
                    masks[state] = mask
        return masks


class Words:
    """Tokens without a quotation mark, found by what they begin with."""

    def __init__(self, tokens: Iterable[bytes]) -> None:
        self.sorted = sorted(tokens)
        self._beginning: dict[bytes, tuple[int, int]] = {b"": (0, len(self.sorted))}

    def found(self, bytewise: Bytewise, within: Collection[int]) -> set[bytes] | None:
        """Every word that fits in a state outside of strings; None if that is too many to seek."""
        outside = [state for state in bytewise.next if state not in within]
        steps = STEPS_PER_STATE * len(outside)
        words: set[bytes] = set()
        ahead = [(state, b"") for state in outside]
        while ahead:
            state, spelled = ahead.pop()
            for byte, target in bytewise.next.get(state, {}).items():
                steps -= 1
                longer = spelled + bytes([byte])
                first, end = self._range(spelled, byte)
                if first < end:
                    ahead.append((target, longer))
                    if self.sorted[first] == longer:
                        words.add(longer)
            if steps < 0:
                return None
        return words

    def _range(self, spelled: bytes, byte: int) -> tuple[int, int]:
        """Where the words that begin so stand."""
        longer = spelled + bytes([byte])
        known = self._beginning.get(longer)
        if known is None:
            if len(self._beginning) > MAX_BEGINNINGS:
                self._beginning = {b"": (0, len(self.sorted))}
            first, end = self._beginning.get(spelled) or (0, len(self.sorted))
            first = bisect_left(self.sorted, longer, first, end)
            if byte < 255:
                end = bisect_left(self.sorted, spelled + bytes([byte + 1]), first, end)
            known = self._beginning[longer] = (first, end)
        return known


compilation: Compilation
"""Of this child process; set by `prepare`, since a pool calls functions."""


def prepare(vocabulary: bytes, cache: Path, max_memory_bytes: int) -> None:
    """Load the vocabulary, in memory that is limited from here on.

    SIGTERM ends the process at once, also while outlines-core works; and a compilation must not
    take time from the engine.
    """
    global compilation
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.nice(NICENESS)
    resource.setrlimit(resource.RLIMIT_AS, (max_memory_bytes, max_memory_bytes))
    compilation = Compilation(vocabulary, cache)


def compile_pattern(key: str, pattern: str) -> None:
    compilation.compile(key, pattern)
