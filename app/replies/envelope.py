"""What all chunks of one reply have in common."""

import time

import msgspec

from app.random_names import random_name


class Envelope(msgspec.Struct, frozen=True):
    """A reply's identity; `created` is in seconds since 1970."""

    id: str
    created: int
    model: str


def new_envelope(prefix: str, model: str) -> Envelope:
    return Envelope(f"{prefix}-{random_name()}", int(time.time()), model)
