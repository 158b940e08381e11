"""A client's place at an engine that others use too. Knows nothing of vLLM."""

from typing import Protocol

import msgspec


class Place(msgspec.Struct, frozen=True):
    """Where one of several clients meets the engine; it binds both addresses, of ZeroMQ."""

    index: int
    """From 0; all below `count` are taken by somebody."""

    count: int
    input_address: str
    output_address: str
    files: dict[str, str]
    """Engine arguments that name the model's files."""


class Seat(Protocol):
    """A client's view of whoever runs the engine."""

    @property
    def is_lost(self) -> bool:
        """Whether the engine has died. One that was killed does not say so itself."""
        ...

    async def place(self) -> Place:
        """Wait until the engine runs. Raises EngineDead if it does not get that far."""
        ...
