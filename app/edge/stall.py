"""How long a connection has been waiting for its client, seen once a second."""

from typing import Literal

import msgspec

Wait = Literal["head", "body", "reader", "end"]
"""For a request's head or body, for the client to read, or for it to end the connection."""


class Stall(msgspec.Struct):
    """One wait: for what, how many steps the client had made, since when, what had moved."""

    wait: Wait | None = None
    steps: int = 0
    since: float = 0.0
    moved_bytes: int = 0

    def note(self, wait: Wait | None, steps: int, now: float, moved_bytes: int) -> float:
        """Seconds for which it has waited for the same."""
        if (wait, steps) != (self.wait, self.steps):
            self.wait, self.steps = wait, steps
            self.restart(now, moved_bytes)
        return now - self.since

    def restart(self, now: float, moved_bytes: int) -> None:
        self.since, self.moved_bytes = now, moved_bytes

    def rate(self, now: float, moved_bytes: int) -> float:
        """Bytes per second since the wait began, after some time."""
        return (moved_bytes - self.moved_bytes) / (now - self.since)
