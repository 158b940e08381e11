"""A connection's transport that sends at once what is written in one turn of the event loop."""

import asyncio
from collections.abc import Iterable
from typing import Any

MOST_HELD_BYTES = 2**16
"""From here on copying takes longer than another call, and the reader's pace has to be felt."""


class Cork(asyncio.Transport):
    """A reply's head waits for what follows it without a pause, as does its end: a system call
    costs as much as all the rest of an event, and each wakes the client up.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self.transport = transport
        """The one below; who writes to it sees to `pieces` first."""

        self.pieces: list[bytes] = []
        self._loop = loop
        self._held_bytes = 0

    def write(self, data: Any) -> None:
        if not self.pieces:
            self._loop.call_soon(self.flush)
        self.pieces.append(data)
        self._held_bytes += len(data)
        if self._held_bytes >= MOST_HELD_BYTES:
            self.flush()

    def writelines(self, list_of_data: Iterable[Any]) -> None:
        for data in list_of_data:
            self.write(data)

    def flush(self) -> None:
        """Send what is held, if anything is."""
        if not self.pieces:
            return
        held = b"".join(self.pieces) if len(self.pieces) > 1 else self.pieces[0]
        self._drop()
        if not self.transport.is_closing():
            self.transport.write(held)

    def _drop(self) -> None:
        self.pieces.clear()
        self._held_bytes = 0

    def close(self) -> None:
        self.flush()
        self.transport.close()

    def write_eof(self) -> None:
        self.flush()
        self.transport.write_eof()

    def abort(self) -> None:
        self._drop()
        self.transport.abort()

    def can_write_eof(self) -> bool:
        return self.transport.can_write_eof()

    def is_closing(self) -> bool:
        return self.transport.is_closing()

    def pause_reading(self) -> None:
        self.transport.pause_reading()

    def resume_reading(self) -> None:
        self.transport.resume_reading()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self.transport.get_extra_info(name, default)

    def get_write_buffer_size(self) -> int:
        return self.transport.get_write_buffer_size() + self._held_bytes
