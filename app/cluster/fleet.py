"""What the front sees of the replicas. Knows no Ray."""

from collections.abc import AsyncGenerator
from typing import Protocol

from litestar.types import Message

from app.cluster.exchange import Request
from app.engine.base import Status


class Fleet(Protocol):
    """Some replicas that come and go."""

    status: Status
    """loading: none was ever ready; failed: none will be."""

    num_ready: int

    async def refresh(self) -> None:
        """Look again how many replicas there are."""
        ...

    def ask(self, request: Request, key: str) -> AsyncGenerator[list[Message], None]:
        """The reply of one replica, by and by; those of the same key prefer the same one.

        Waits for a replica that has room; close it to cancel the request. Raises CapacityError if
        the replica dies.
        """
        ...

    async def ask_all(self, request: Request) -> list[list[Message]]:
        """The whole replies of all replicas that give one."""
        ...
