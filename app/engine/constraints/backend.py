"""vLLM's structured output in the engine core: our programs in the place of its outlines backend.

Loaded into the engine core by `app.engine.scheduler`. Beside what vLLM's own does, the patterns
are compiled already, a token costs microseconds (vLLM 0.32 has outlines-core list all allowed
tokens at each step: 1.7 ms with a vocabulary of 130,000), and masks are kept.
"""

import os
import threading
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import msgspec
import torch
from cachetools import LRUCache
from vllm.v1.structured_output import backend_outlines
from vllm.v1.structured_output.backend_types import (
    StructuredOutputGrammar,
    StructuredOutputOptions,
)

from app.engine.constraints.masks import Spelling
from app.engine.constraints.patterns import LoadedPattern, load_inside
from app.engine.constraints.program import Plan, Program, Walk
from app.engine.constraints.store import CompiledPattern, index_store, vocabulary_path
from app.engine.constraints.vocabulary import decode_vocabulary
from app.engine.environment import INDEX_CACHE_BYTES, INDEX_CACHE_DIR

K = TypeVar("K")
V = TypeVar("V")


class WalkedGrammar(StructuredOutputGrammar):  # type: ignore[misc]
    """One request's walk."""

    def __init__(self, walk: Walk, spelling: Spelling) -> None:
        self.walk = walk
        self.eos_token_id = spelling.vocabulary.eos_token_id
        self._only_end = spelling.only([self.eos_token_id])
        self._ended = False

    def accept_tokens(self, request_id: str, tokens: list[int]) -> bool:
        """All of the tokens, or none; what comes behind the end is ignored."""
        before = self.walk.num_tokens
        for token_id in tokens:
            if self._ended:
                break
            if token_id == self.eos_token_id and self.walk.may_end:
                self._ended = True
            elif not self.walk.advance(token_id):
                self.walk.back(self.walk.num_tokens - before)
                return False
        return True

    def validate_tokens(self, tokens: list[int]) -> list[int]:
        """The tokens up to the first that is not allowed."""
        before = self.walk.num_tokens
        accepted = []
        for token_id in [] if self._ended else tokens:
            if token_id == self.eos_token_id:
                accepted += [token_id] if self.walk.may_end else []
                break
            if not self.walk.advance(token_id):
                break
            accepted.append(token_id)
        self.walk.back(self.walk.num_tokens - before)
        return accepted

    def rollback(self, num_tokens: int) -> None:
        if num_tokens and self._ended:
            self._ended = False
            num_tokens -= 1
        self.walk.back(num_tokens)

    def fill_bitmask(self, bitmask: torch.Tensor, idx: int) -> None:
        mask = self.walk.mask()
        bitmask[idx].numpy()[:] = self._only_end if mask is None else mask

    def is_terminated(self) -> bool:
        return self._ended

    def reset(self) -> None:
        self._ended = False
        self.walk.back(self.walk.num_tokens)


class ProgramBackend(backend_outlines.OutlinesBackend):  # type: ignore[misc]
    """Grammars from programs whose patterns are in the index store."""

    def __post_init__(self) -> None:
        self.cache_dir = Path(os.environ[INDEX_CACHE_DIR])
        self.store = index_store(self.cache_dir)
        self._spelling: Spelling | None = None
        self._lock = threading.Lock()
        half = int(os.environ[INDEX_CACHE_BYTES]) // 2
        self._patterns = LRUCache[str, LoadedPattern](half, getsizeof=lambda each: each.num_bytes)
        self._plans = LRUCache[bytes, Plan](half, getsizeof=lambda each: each.num_bytes)

    def compile_grammar(
        self,
        request_type: StructuredOutputOptions,
        grammar_spec: str,
        stop_token_ids: set[int] | None = None,
    ) -> StructuredOutputGrammar:
        """Raises ValueError for what is not a program, FileNotFoundError for a lost index."""
        if request_type != StructuredOutputOptions.STRUCTURAL_TAG:
            raise ValueError(f"{request_type} is not a program.")
        program = msgspec.json.decode(grammar_spec, type=Program)
        with self._lock:
            spelling = self.spelling(program.vocabulary)
            return WalkedGrammar(Walk(self.plan(program, spelling), program.max_tokens), spelling)

    def spelling(self, digest: str) -> Spelling:
        if self._spelling is None:
            encoded = vocabulary_path(self.cache_dir, digest).read_bytes()
            spelling = Spelling(decode_vocabulary(encoded), self.vocab_size, self.ends())
            self._inside, self._spelling = load_inside(self.cache_dir, spelling), spelling
        return self._spelling

    def ends(self) -> list[int]:
        """Every token with which the model may end a reply."""
        ends = self.vllm_config.model_config.try_get_generation_config().get("eos_token_id")
        return ends if isinstance(ends, list) else [ends] if isinstance(ends, int) else []

    def plan(self, program: Program, spelling: Spelling) -> Plan:
        key = msgspec.json.encode(program.segments)
        plan = self._plans.get(key)
        if plan is None:
            plan = Plan(program.segments, spelling, self.load)
            keep(self._plans, key, plan)
        return plan

    def load(self, key: str) -> LoadedPattern:
        assert self._spelling is not None
        loaded = self._patterns.get(key)
        if loaded is None:
            compiled = self.store.load(key, CompiledPattern)
            loaded = LoadedPattern(compiled, self._spelling, self._inside)
            keep(self._patterns, key, loaded)
        return loaded


def keep(cache: LRUCache[K, V], key: K, value: V) -> None:
    """Unless it is larger than the whole cache."""
    with suppress(ValueError):
        cache[key] = value


backend_outlines.OutlinesBackend = ProgramBackend
