"""What is counted, and under what."""

import time
from typing import Any, NamedTuple

import msgspec

HOUR_SECONDS = 3600


class Line(NamedTuple):
    """What requests are counted under together."""

    hour: int
    """Since 1970 in UTC."""

    key: str
    """Alias of the key."""

    model: str
    route: str
    """Template of the path."""


class Counts(msgspec.Struct, kw_only=True):
    """Sums over requests; the fields are the columns of the database."""

    requests: int = 0
    aborted_requests: int = 0
    """Whose client left, or which failed, before the reply was complete."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    """Of the prompt tokens, those that the prefix cache had."""

    completion_tokens: int = 0
    """Also those that were made and never read."""

    def add(self, other: "Counts") -> None:
        for name in COUNTED:
            setattr(self, name, getattr(self, name) + getattr(other, name))


COUNTED = Counts.__struct_fields__
Group = tuple[Any, ...]
"""Values of what is grouped by."""


def hour_now() -> int:
    return int(time.time()) // HOUR_SECONDS
