"""What clients saw of each request."""

from typing import Literal

import msgspec

Outcome = Literal["answered", "refused", "failed", "left", "cut", "broken"]
"""Whole; refused with a status and a reason; ended by an error event; its client left; a reader who
stalled was cut off; and what must never be: neither an answer nor an explicit error."""

ENDS: frozenset[Outcome] = frozenset({"answered", "refused", "failed"})
"""Of requests whose clients stay."""


class Record(msgspec.Struct):
    """One request; filled in as it goes on."""

    id: str
    """Sent as X-Request-Id, which the server's log has too."""

    kind: str
    began: float
    """On the clock of `time.monotonic`."""

    outcome: Outcome = "broken"
    status: int | None = None
    tokens: int | None = None
    """Generated, as the reply's usage says; None without one."""

    detail: str = ""
    seconds: float = 0


class Broken(Exception):
    """The reply is neither whole nor an explicit error."""
