"""Event framing; JSON has no raw line break, so one `data:` line holds any payload."""

from collections.abc import Callable

Write = Callable[[bytes], bool]
"""Sends events of a stream that has begun, if it need not wait for that; whether it did."""

DONE = b"data: [DONE]\n\n"


def frame(payload: bytes) -> bytes:
    """One server-sent event."""
    return b"data: " + payload + b"\n\n"
