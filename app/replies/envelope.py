"""What all chunks of one reply have in common."""

import secrets
import time

import msgspec


class Envelope(msgspec.Struct, frozen=True):
    """A reply's identity; `created` is in seconds since 1970."""

    id: str
    created: int
    model: str


def new_envelope(prefix: str, model: str) -> Envelope:
    return Envelope(f"{prefix}-{secrets.token_hex(16)}", int(time.time()), model)
