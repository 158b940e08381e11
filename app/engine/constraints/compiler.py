"""Constraints in, programs out: every pattern compiled once, in a process that can be killed.

A compilation has a limit of time and one of memory; whatever exceeds one is ended with its
process, so that nothing of it stays behind.
"""

import asyncio
import logging
import multiprocessing
import signal
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import msgspec
from cachetools import LRUCache, TTLCache
from pebble import ProcessExpired, ProcessPool
from prometheus_client import Counter, Histogram

from app.engine.base import Choice, Constraint, Match, Segment, Text
from app.engine.constraints.compilation import compile_pattern, prepare
from app.engine.constraints.masks import Spelling
from app.engine.constraints.patterns import LoadedPattern
from app.engine.constraints.program import Plan, Program
from app.engine.constraints.store import CompiledPattern, index_key, index_store
from app.engine.constraints.vocabulary import NEVER, Vocabulary
from app.engine.constraints.walkers import Indexed
from app.errors import EngineDead, InvalidRequest, Overloaded
from app.settings import Settings

MAX_COMPILATIONS = 256
"""At once, nearly all waiting for a process; some take seconds, so more would wait in vain."""

MAX_REMEMBERED = 4096
REFUSED_SECONDS = 600
"""How long a pattern is known to be too complex: on a busy machine it may only have been slow."""

OUT_OF_MEMORY = -signal.SIGABRT
"""How a process ends when outlines-core gets no memory."""

logger = logging.getLogger(__name__)

compilations = Counter(
    "slipstream_constraint_compilations",
    "Patterns of constrained requests: compiled, found in the cache, or refused.",
    ("outcome",),
)
seconds = Histogram(
    "slipstream_constraint_compilation_seconds",
    "From asking for a pattern that is not in the cache to its index.",
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)


class ConstraintCompiler:
    """Compiles for one vocabulary. Open it once, and close it."""

    def __init__(self, settings: Settings, vocabulary: Vocabulary, cache: Path) -> None:
        self._settings = settings
        self._vocabulary = vocabulary
        self._cache = cache
        self._store = index_store(cache, settings.index_cache_disk_mib * 2**20)
        self._spelling = Spelling(vocabulary, len(vocabulary.tokens))
        self._running: dict[str, asyncio.Task[None]] = {}
        self._waiting: dict[str, int] = {}
        self._replacing = asyncio.Lock()
        self._is_closed = False
        self._refused: TTLCache[str, Refused] = TTLCache(MAX_REMEMBERED, REFUSED_SECONDS)
        self._needs: LRUCache[bytes, int] = LRUCache(MAX_REMEMBERED)

    def open(self) -> None:
        """Start the processes, which takes them some seconds when the vocabulary is new."""
        memory = self._settings.compile_memory_mib * 2**20
        self._pool = ProcessPool(
            max_workers=self._settings.compile_processes,
            context=multiprocessing.get_context("spawn"),
            initializer=prepare,
            initargs=(self._vocabulary.encoded, self._cache, memory),
        )
        self._pool.schedule(int)

    def close(self) -> None:
        """End the processes, whatever they are at; what waits for them raises EngineDead."""
        self._is_closed = True
        self._end()

    def _end(self) -> None:
        self._pool.stop()
        self._pool.join()

    async def program(self, constraint: Constraint, max_tokens: int) -> str:
        """What the engine core needs of a constraint, with all its patterns compiled.

        Raises InvalidRequest for a pattern that is too complex, and for a `max_tokens` in which
        no reply can be complete; Overloaded if too many compilations wait.
        """
        segments = await self.compiled(constraint)
        try:
            need = await self.need(segments)
        except FileNotFoundError:  # an index was found damaged, and is gone now
            need = await self.need(await self.compiled(constraint))
        if need >= NEVER:
            raise InvalidRequest("The reply cannot be written with this model's tokens.")
        if need > max_tokens:
            raise InvalidRequest(
                f"max_tokens: the shortest reply that satisfies the request has about {need} "
                f"tokens, and only {max_tokens} can be generated.",
                param="max_tokens",
            )
        program = Program(segments, max_tokens, self._vocabulary.digest)
        return msgspec.json.encode(program).decode()

    async def compiled(self, constraint: Constraint) -> tuple[Text | Choice | Indexed, ...]:
        """The segments with keys in the place of patterns."""
        segments = tuple(map(self.indexed, constraint.segments))
        keyed = [
            (match, indexed.key)
            for match, indexed in zip(constraint.segments, segments, strict=True)
            if isinstance(match, Match) and isinstance(indexed, Indexed)
        ]
        missing = [(match, key) for match, key in keyed if not self.is_found(match, key)]
        tasks = [asyncio.create_task(self.join(match, key)) for match, key in missing]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
        return segments

    def is_found(self, match: Match, key: str) -> bool:
        """Raises InvalidRequest for a pattern that failed before."""
        if key in self._refused:
            compilations.labels("refused").inc()
            raise self._refused[key].as_error(match.param)
        found = self._store.touch(key)
        if found:
            compilations.labels("found").inc()
        return found

    def indexed(self, segment: Segment) -> Text | Choice | Indexed:
        if isinstance(segment, Match):
            key = index_key(self._vocabulary.digest, segment.pattern)
            return Indexed(key=key, then=segment.then)
        return segment

    async def join(self, match: Match, key: str) -> None:
        """Wait for a compilation that others may wait for too; the last to leave ends it."""
        task = self._running.get(key) or self.start(key, match.pattern)
        self._waiting[key] += 1
        try:
            await asyncio.shield(task)
        except Refused as refused:
            raise refused.as_error(match.param) from refused
        finally:
            self.leave(key, task)

    def leave(self, key: str, task: asyncio.Task[None]) -> None:
        if self._running.get(key) is task:
            self._waiting[key] -= 1
            if not self._waiting[key]:
                self.forget(key)
                task.cancel()

    def start(self, key: str, pattern: str) -> asyncio.Task[None]:
        if len(self._running) >= MAX_COMPILATIONS:
            raise Overloaded("Too many schemas are being compiled.")
        task = self._running[key] = asyncio.create_task(self.compile(key, pattern))
        self._waiting[key] = 0
        task.add_done_callback(lambda done: self.end(key, done))
        return task

    def end(self, key: str, task: asyncio.Task[None]) -> None:
        """Another one may have begun since this one was cancelled."""
        if self._running.get(key) is task:
            self.forget(key)

    def forget(self, key: str) -> None:
        del self._running[key], self._waiting[key]

    async def compile(self, key: str, pattern: str) -> None:
        """Raises Refused, and remembers it; Overloaded if it is the machine that is at its end."""
        try:
            with seconds.time():
                await self.work(key, pattern)
        except (TimeoutError, MemoryError, ProcessExpired) as error:
            limit, memory = self._settings.compile_seconds, self._settings.compile_memory_mib
            limits = f"it cannot be compiled within {limit:g} s and {memory} MiB"
            was_ended = getattr(error, "exitcode", OUT_OF_MEMORY) != OUT_OF_MEMORY
            refused = Refused(limits, "schema_too_complex")
            raise self.noted(key, refused, is_remembered=not was_ended) from error
        except ValueError as error:
            refused = Refused(f"it cannot be compiled: {error}", "unsupported_schema")
            raise self.noted(key, refused, is_remembered=True) from error
        except OSError as error:
            logger.error("a compiled pattern cannot be stored", exc_info=error)
            raise Overloaded("Compiled schemas cannot be stored.") from error
        compilations.labels("compiled").inc()
        await asyncio.to_thread(self._store.shrink)

    def noted(self, key: str, refused: "Refused", *, is_remembered: bool) -> "Refused":
        """A process that somebody ended says nothing of the pattern."""
        compilations.labels("refused").inc()
        if is_remembered:
            self._refused[key] = refused
        return refused

    async def work(self, key: str, pattern: str) -> None:
        """Compile in a process, and with new ones if they are all gone."""
        for _ in range(2):
            pool, limit = self._pool, self._settings.compile_seconds
            try:
                work = pool.schedule(compile_pattern, args=[key, pattern], timeout=limit)
                return await asyncio.wrap_future(work)
            except asyncio.CancelledError:
                if asyncio.current_task().cancelling():  # type: ignore[union-attr]
                    raise
                continue  # the work was cancelled with its pool, not this task
            except (RuntimeError, BrokenProcessPool) as error:
                await self.replace(pool, error)
        raise Overloaded("Schemas cannot be compiled now.")

    async def replace(self, broken: ProcessPool, error: Exception) -> None:
        """Open another pool, unless one that also met the broken one has; starting takes time.

        Raises EngineDead if it was closed for good.
        """
        async with self._replacing:
            if self._is_closed:
                raise EngineDead("The engine is being stopped.") from error
            if self._pool is broken:
                logger.warning("the processes that compile are started anew", exc_info=error)
                await asyncio.to_thread(self._end)
                await asyncio.to_thread(self.open)

    async def need(self, segments: tuple[Text | Choice | Indexed, ...]) -> int:
        """Tokens of the shortest complete reply."""
        key = msgspec.json.encode(segments)
        if key not in self._needs:
            self._needs[key] = await asyncio.to_thread(self.measure, segments)
        return self._needs[key]

    def measure(self, segments: tuple[Text | Choice | Indexed, ...]) -> int:
        return Plan(segments, self._spelling, self.load).after(0)

    def load(self, key: str) -> LoadedPattern:
        return LoadedPattern(self._store.load(key, CompiledPattern), self._spelling)


class Refused(Exception):
    """A pattern that cannot be compiled; remembered without the request that had it."""

    def __init__(self, reason: str, code: str) -> None:
        super().__init__(reason)
        self.code = code

    def as_error(self, param: str) -> InvalidRequest:
        return InvalidRequest(f"{param}: {self}.", param=param, code=self.code)
