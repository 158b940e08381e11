"""The latest try to serve an adapter: of what, how it went, and when to try again."""

import time

from app.adapters.files import Stamp
from app.adapters.journal import Entry
from app.errors import CapacityError, ServerError, StateUnwritable

TRANSIENT = (CapacityError, StateUnwritable)
"""Tried again although nothing has changed: the hub may be back, the disk have room."""

FIRST_PAUSE_SECONDS = 20.0
LONGEST_PAUSE_SECONDS = 3600.0


class Attempt:
    """Failed until it has succeeded; pauses grow from one failure to the next."""

    def __init__(self, entry: Entry, stamp: Stamp, before: "Attempt | None" = None) -> None:
        self.error = ""
        self._entry = entry
        self._stamp = stamp
        self._pause = before.pause_after(entry) if before else FIRST_PAUSE_SECONDS
        self._due: float | None = None

    def pause_after(self, entry: Entry) -> float:
        """How long to wait after the next failure of the same."""
        if entry != self._entry or not self.error:
            return FIRST_PAUSE_SECONDS
        return min(2 * self._pause, LONGEST_PAUSE_SECONDS)

    def succeed(self) -> None:
        self.error, self._due = "", None

    def fail(self, error: ServerError) -> None:
        self.error = error.message
        self._due = time.monotonic() + self._pause if isinstance(error, TRANSIENT) else None

    def is_due(self, entry: Entry, stamp: Stamp) -> bool:
        """Whether it should be tried: it is something else by now, or the pause is over."""
        if (entry, stamp) != (self._entry, self._stamp):
            return True
        return self._due is not None and time.monotonic() >= self._due
