"""A frontend's end of the line to the host: its place at the engine, and word from its peers."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from app.engine.place import Place
from app.errors import EngineDead
from app.fronts.line import HungUp, Line, open_line

Ask = Callable[[], Awaitable[Any]]


async def nothing() -> None:
    """Asked for before there is an application."""


class HostedSeat:
    """Both an `engine.place.Seat` and `adapters.peers.Peers`."""

    def __init__(self) -> None:
        self._place: asyncio.Future[Place] = asyncio.get_running_loop().create_future()
        self._line: Line | None = None
        self.is_lost = False
        self.reconcile: Ask = nothing
        """Serves what the journal of adapters says now."""

        self.expose: Ask = nothing
        """Our own metrics, as text."""

    async def open(self, end: socket.socket) -> None:
        """Listen to the host."""
        answers = {
            "seated": self._take_place,
            "lost": self._lose,
            "reconcile": lambda _: self.reconcile(),
            "metrics": lambda _: self.expose(),
        }
        self._line = await open_line(end, answers)

    async def close(self) -> None:
        """Hang up."""
        if self._line is not None:
            await self._line.close()

    async def place(self) -> Place:
        return await asyncio.shield(self._place)

    async def number(self, name: str) -> int:
        return int(await self._ask("number", name))

    async def release(self, name: str) -> bool:
        return bool(await self._ask("release", name))

    async def follow(self) -> None:
        await self._ask("follow")

    async def all_metrics(self) -> dict[str, str]:
        """Texts of the other frontends, by their index. Raises EngineDead."""
        return msgspec.convert(await self._ask("metrics"), dict[str, str])

    async def _ask(self, name: str, argument: Any = None) -> Any:
        assert self._line is not None
        try:
            return await self._line.call(name, argument)
        except HungUp as error:
            raise EngineDead("The engine's host does not answer.") from error

    async def _take_place(self, told: Any) -> None:
        self._place.set_result(msgspec.convert(told, Place))

    async def _lose(self, reason: str) -> None:
        self.is_lost = True
        if not self._place.done():
            self._place.set_exception(EngineDead(reason))
