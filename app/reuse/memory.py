"""A store of Litestar's kind in this process' memory, of bounded size."""

import math
import time
from collections.abc import Callable
from datetime import timedelta

import msgspec
from cachetools import TLRUCache
from litestar.stores.base import Store

ENTRY_BYTES = 512
"""What an entry takes beside its value, about: its key, and the bookkeeping."""


class Entry(msgspec.Struct, frozen=True):
    value: bytes
    end: float
    """On the store's clock; infinite for one that stays."""


class MemoryStore(Store):
    """Forgets what is longest unused when its bytes run out; Litestar's own has no bound.

    Never waits, and so needs no lock.
    """

    __slots__ = ("_clock", "_entries")

    def __init__(self, max_bytes: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._entries: TLRUCache[str, Entry] = TLRUCache(max_bytes, end_of, clock, size_of)

    @property
    def num_bytes(self) -> int:
        """What it takes now, about."""
        self._entries.expire()
        return int(self._entries.currsize)

    async def set(
        self, key: str, value: str | bytes, expires_in: int | timedelta | None = None
    ) -> None:
        """Keep a value, if it is not larger than the store."""
        data = value.encode() if isinstance(value, str) else value
        entry = Entry(data, self._end_in(expires_in))
        if size_of(entry) <= self._entries.maxsize:
            self._entries[key] = entry

    async def get(self, key: str, renew_for: int | timedelta | None = None) -> bytes | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        if renew_for is not None and entry.end != math.inf:
            self._entries[key] = Entry(entry.value, self._end_in(renew_for))
        return entry.value

    async def delete(self, key: str) -> None:
        self._entries.pop(key, None)

    async def delete_all(self) -> None:
        self._entries.clear()

    async def exists(self, key: str) -> bool:
        return key in self._entries

    async def expires_in(self, key: str) -> int | None:
        """Seconds left; -1 for a value that stays, as Litestar's stores have it."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        return -1 if entry.end == math.inf else int(entry.end - self._clock())

    def _end_in(self, expires_in: int | timedelta | None) -> float:
        if expires_in is None:
            return math.inf
        seconds = expires_in.total_seconds() if isinstance(expires_in, timedelta) else expires_in
        return self._clock() + seconds


def size_of(entry: Entry) -> int:
    return len(entry.value) + ENTRY_BYTES


def end_of(_key: str, entry: Entry, _now: float) -> float:
    return entry.end
