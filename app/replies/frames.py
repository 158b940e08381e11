"""Event framing; JSON has no raw line break, so one `data:` line holds any payload."""

from collections.abc import Callable

import msgspec

Write = Callable[[bytes], bool]
"""Sends events of a stream that has begun, if it need not wait for that; whether it did."""

SLOT = "\x00"
"""Stands for the text while an event's constant bytes are cut around it."""

DONE = b"data: [DONE]\n\n"


encode = msgspec.json.Encoder().encode


def frame(payload: bytes) -> bytes:
    """One server-sent event."""
    return b"data: " + payload + b"\n\n"


class Template:
    """An event of which only the text is encoded anew."""

    __slots__ = ("_after", "_before")

    def __init__(self, event: bytes) -> None:
        """`event` has SLOT for its text."""
        self._before, _, self._after = event.partition(encode(SLOT))

    def render(self, text: str) -> bytes:
        return self._before + encode(text) + self._after
