"""What each key uses: added up in memory, written to the database every second or so.

Nothing that happens to the database fails a request or makes one wait.
"""

import asyncio
import logging
import sqlite3
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress

from app.errors import UsageUnreadable
from app.folders import state_folder
from app.replies.usage import TokenCount
from app.settings import Settings
from app.usage.counts import Counts, Group, Line, hour_now
from app.usage.database import Dimension, UsageDatabase

logger = logging.getLogger(__name__)

WRITE_SECONDS = 1.0
MAX_WAITING = 100_000
"""Rows kept in memory while they cannot be written, some 30 MB; further ones go under `other`."""

MAX_GROUPS = 10_000
"""In one answer's sums."""

OTHER = "other"
Sums = dict[Group, Counts]
DATABASE_ERRORS = (OSError, sqlite3.Error)


class Ledger:
    """Counts by key, model, route and hour."""

    def __init__(self, settings: Settings) -> None:
        self.database = UsageDatabase(state_folder(settings.state_dir) / "usage.sqlite")
        self._days = settings.usage_days
        self._waiting: defaultdict[Line, Counts] = defaultdict(Counts)
        self._is_broken = False
        self._lock = asyncio.Lock()
        """Held while the database is used: nothing is between memory and disk when it is read."""

    def count(self, key: str, model: str, route: str, tokens: TokenCount) -> None:
        """Count one request that has ended."""
        line = Line(hour_now(), key, model, route)
        if len(self._waiting) >= MAX_WAITING and line not in self._waiting:
            line = Line(line.hour, OTHER, OTHER, OTHER)
        self._waiting[line].add(
            Counts(
                requests=1,
                aborted_requests=int(tokens.is_abandoned),
                prompt_tokens=tokens.used_prompt,
                cached_tokens=tokens.cached,
                completion_tokens=tokens.completion,
            )
        )

    @asynccontextmanager
    async def written(self) -> AsyncIterator[None]:
        """Write now and then until the block ends, and once more behind it."""
        end = asyncio.Event()
        writing = asyncio.create_task(self._write_until(end))
        try:
            yield
        finally:
            end.set()
            await writing
            if self._waiting:
                logger.error(
                    "%d rows of usage are lost: they cannot be written", len(self._waiting)
                )

    async def _write_until(self, end: asyncio.Event) -> None:
        while not end.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(WRITE_SECONDS):
                    await end.wait()
            await self.write()

    async def write(self) -> None:
        """Write what is waiting; what cannot be written waits on."""
        async with self._lock:
            counted, self._waiting = self._waiting, defaultdict(Counts)
            if not counted:
                return
            try:
                await asyncio.to_thread(self.database.add, counted, hour_now() - self._days * 24)
            except DATABASE_ERRORS as error:
                self._put_back(counted)
                self._tell(error)
            else:
                self._tell(None)

    def _put_back(self, counted: Mapping[Line, Counts]) -> None:
        for line, counts in counted.items():
            self._waiting[line].add(counts)

    def _tell(self, error: Exception | None) -> None:
        """Log that the database is broken, or that it is whole again; each once."""
        if error is not None and not self._is_broken:
            logger.error("usage is kept in memory: %s: %s", self.database.path, error)
        if error is None and self._is_broken:
            logger.info("usage is written again")
        self._is_broken = error is not None

    async def sums(self, by: Sequence[Dimension], hours: range, key: str | None) -> Sums:
        """Sums by what is grouped by, of one key or of all; more than MAX_GROUPS if there are more.

        Raises UsageUnreadable.
        """
        async with self._lock:
            try:
                sums = await asyncio.to_thread(self.database.sums, by, hours, key, MAX_GROUPS + 1)
            except DATABASE_ERRORS as error:
                self._tell(error)
                raise UsageUnreadable("The database of usage cannot be read.") from error
            for line, counts in self._waiting.items():
                if line.hour in hours and key in (None, line.key):
                    sums.setdefault(group_of(line, by), Counts()).add(counts)
        return sums


def group_of(line: Line, by: Sequence[Dimension]) -> Group:
    return tuple(line.hour // 24 * 24 if name == "day" else getattr(line, name) for name in by)
