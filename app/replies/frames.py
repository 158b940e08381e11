"""Event framing; JSON has no raw line break, so one `data:` line holds any payload."""

DONE = b"data: [DONE]\n\n"


def frame(payload: bytes) -> bytes:
    """One server-sent event."""
    return b"data: " + payload + b"\n\n"
