"""Who holds a key, while the server runs: what it allows, and how much of that is left."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

from app.errors import RateLimited
from app.keys.bucket import Bucket
from app.keys.grant import ANONYMOUS, UNLIMITED, Grant


class Caller:
    """The holder of one key; its limits live as long as its alias, whatever the file says next."""

    __slots__ = ("alias", "grant", "in_flight", "requests", "tokens")

    def __init__(self, alias: str, grant: Grant) -> None:
        self.alias = alias
        self.in_flight = 0
        self.requests: Bucket | None = None
        self.tokens: Bucket | None = None
        self.regrant(grant)

    @property
    def owner(self) -> str:
        """As `base.Origin` names it: nobody in particular where no key is needed."""
        return "" if self.alias == ANONYMOUS else self.alias

    def regrant(self, grant: Grant) -> None:
        """Allow something else from now on."""
        self.grant = grant
        self.requests = resized(self.requests, grant.requests_per_minute)
        self.tokens = resized(self.tokens, grant.tokens_per_minute)

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """Count one request, which is in flight until the block ends. Raises RateLimited."""
        most = self.grant.concurrent_requests
        if most is not None and self.in_flight >= most:
            raise RateLimited(f"This key may have {most} requests at once.", 1, "requests")
        if self.requests is not None:
            take(self.requests, 1, "requests")
        self.in_flight += 1
        try:
            yield
        finally:
            self.in_flight -= 1

    def reserve(self, num_tokens: int, *, is_let_in: bool = False) -> None:
        """Take what generations may need at most, before they begin.

        A request that has been let in is not refused any more. Raises RateLimited.
        """
        if self.tokens is None:
            return
        if is_let_in:
            self.tokens.take(num_tokens)
        else:
            take(self.tokens, num_tokens, "tokens")

    def settle(self, reserved: int, used: int) -> None:
        """Put what was reserved right when it is known what was used."""
        if self.tokens is not None and reserved:
            self.tokens.take(used - reserved)

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """OpenAI's `x-ratelimit-*`, of the limits that there are."""
        return [*limit_headers(b"requests", self.requests), *limit_headers(b"tokens", self.tokens)]


def resized(bucket: Bucket | None, per_minute: int | None) -> Bucket | None:
    if per_minute is None or bucket is None:
        return None if per_minute is None else Bucket(per_minute)
    bucket.resize(per_minute)
    return bucket


def take(bucket: Bucket, amount: int, kind: str) -> None:
    seconds = bucket.seconds_until(amount)
    if seconds > 0:
        raise RateLimited(
            f"This key may use {bucket.per_minute} {kind} a minute, and {amount} are too many for "
            f"now. Try again in {seconds:.1f} s.",
            math.ceil(seconds),
            kind,
        )
    bucket.take(amount)


def limit_headers(kind: bytes, bucket: Bucket | None) -> list[tuple[bytes, bytes]]:
    if bucket is None:
        return []
    remaining = max(math.floor(bucket.level), 0)
    reset = duration(bucket.seconds_until(bucket.per_minute))
    return [
        (b"x-ratelimit-limit-" + kind, b"%d" % bucket.per_minute),
        (b"x-ratelimit-remaining-" + kind, b"%d" % remaining),
        (b"x-ratelimit-reset-" + kind, reset.encode()),
    ]


def duration(seconds: float) -> str:
    """As OpenAI writes it, in the manner of Go: `120ms`, `1s`, `6m0s`."""
    if seconds < 1:
        return f"{math.ceil(seconds * 1000)}ms"
    whole = math.ceil(seconds)
    return f"{whole}s" if whole < 60 else f"{whole // 60}m{whole % 60}s"


NOBODY = Caller(ANONYMOUS, UNLIMITED)
"""Where no key is needed, and until it is known whose the key is."""
