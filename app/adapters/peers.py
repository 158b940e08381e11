"""Other processes that serve the same adapters from the same engine; usually there are none."""

import itertools
from typing import Protocol


class Peers(Protocol):
    """What has to be agreed upon with them."""

    async def number(self, name: str) -> int:
        """Of a version of this name, which means the same files to all: one for everybody."""
        ...

    async def release(self, name: str) -> bool:
        """Give back what `number` gave. Whether nobody uses the version any more."""
        ...

    async def follow(self) -> None:
        """Wait until all of them serve what the journal says now."""
        ...


class NoPeers:
    """Alone: each version that is loaded has a number of its own."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)

    async def number(self, _: str) -> int:
        return next(self._numbers)

    async def release(self, _: str) -> bool:
        return True

    async def follow(self) -> None:
        return None
