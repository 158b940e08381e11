"""A generation that has places in the engine, and gives them back once."""

from collections.abc import Callable, Coroutine
from typing import Any

from app.engine.base import Generation, Output, Take
from app.queueing.tier import Ticket


class PlacedGeneration:
    """A `base.Generation` that gives its places back when it is closed.

    Nothing is done for a token: whoever iterates it gets the engine's own iterator.
    """

    __slots__ = ("_end", "_generation", "_ticket")

    def __init__(
        self, generation: Generation, ticket: Ticket, end: Callable[[Ticket, int | None], None]
    ) -> None:
        self._generation = generation
        self._ticket: Ticket | None = ticket
        self._end = end

    def __aiter__(self) -> Generation:
        return self._generation

    def __anext__(self) -> Coroutine[Any, Any, Output]:
        return self._generation.__anext__()

    def pushed(self, take: Take) -> Coroutine[Any, Any, Output]:
        return self._generation.pushed(take)

    @property
    def num_tokens(self) -> int | None:
        return self._generation.num_tokens

    async def aclose(self) -> None:
        try:
            await self._generation.aclose()
        finally:
            ticket, self._ticket = self._ticket, None
            if ticket is not None:
                self._end(ticket, self._generation.num_tokens)
