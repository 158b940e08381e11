"""Waiting for the first item of something before promising the rest.

Whoever answers with a status must know whether there is an answer; the item that told is kept.
"""

from abc import ABC, abstractmethod
from typing import Generic, Self, TypeVar

T = TypeVar("T")


class Primed(ABC, Generic[T]):
    """An asynchronous iterator whose first item can be waited for; always close it."""

    __slots__ = ("_first",)

    def __init__(self) -> None:
        self._first: T | None = None

    async def wait_for_first(self) -> None:
        """Wait until there is an item; if that fails or is cancelled, it is closed."""
        try:
            self._first = await self.next()
        except BaseException:
            await self.aclose()
            raise

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        if self._first is not None:
            first, self._first = self._first, None
            return first
        return await self.next()

    @abstractmethod
    async def next(self) -> T:
        """The next item. Raises StopAsyncIteration after the last."""

    @abstractmethod
    async def aclose(self) -> None:
        """Abort what is still running; a second call does nothing."""
