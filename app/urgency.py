"""How urgent a request is: its priority and its deadline, as its headers and fields say."""

import asyncio
import math
import re
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext

from app.engine.base import HIGH, LOW, NORMAL
from app.errors import DeadlineExceeded, InvalidRequest

PRIORITY_HEADER = "X-Request-Priority"
DEADLINE_HEADER = "X-Request-Deadline"

PRIORITIES = {"high": HIGH, "normal": NORMAL, "low": LOW}
FOREVER = nullcontext()
UNIX_SECONDS = re.compile(r"\d{1,12}(\.\d{1,9})?")


def priority_of(headers: Mapping[str, str], default: int, highest: int) -> int:
    """What the request asks for or else the default, as far as its sender may.

    `headers`: by name in lower case. Raises InvalidRequest.
    """
    asked = headers.get(PRIORITY_HEADER.lower())
    if asked is None:
        return max(default, highest)
    if asked.lower() not in PRIORITIES:
        raise InvalidRequest(
            f"{PRIORITY_HEADER}: expected one of {', '.join(PRIORITIES)}, got {asked[:32]!r}.",
            param=PRIORITY_HEADER,
        )
    return max(PRIORITIES[asked.lower()], highest)


def deadline_of(
    headers: Mapping[str, str], longest: Iterable[float | None], elapsed: float
) -> float:
    """The earliest of all deadlines, on the clock of `time.monotonic`; infinity without one.

    `headers`: by name in lower case. `longest`: seconds from the request's beginning, which was
    `elapsed` seconds ago; 0 and None are no limits. Raises InvalidRequest, and DeadlineExceeded if
    there is no time left.
    """
    left = min(seconds - elapsed for seconds in (math.inf, *filter(None, longest)))
    left = min(left, header_seconds(headers.get(DEADLINE_HEADER.lower())))
    if left <= 0:
        raise DeadlineExceeded("The request's deadline had passed before any work was done.")
    return time.monotonic() + left


def header_seconds(deadline: str | None) -> float:
    """From now to a time that is sent in Unix seconds. Raises InvalidRequest."""
    if deadline is None:
        return math.inf
    if not UNIX_SECONDS.fullmatch(deadline):
        raise InvalidRequest(
            f"{DEADLINE_HEADER}: expected Unix seconds as a decimal number, such as "
            f"1795298400.5, got {deadline[:32]!r}.",
            param=DEADLINE_HEADER,
        )
    return float(deadline) - time.time()


def until(deadline: float) -> AbstractAsyncContextManager[None]:
    """Cancel the body of the `async with` at a time on the clock of `time.monotonic`.

    Raises DeadlineExceeded in place of the cancellation that it caused.
    """
    return FOREVER if deadline == math.inf else cancelled_at(deadline)


@asynccontextmanager
async def cancelled_at(deadline: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(deadline - time.monotonic()) as limit:
            yield
    except TimeoutError:
        if not limit.expired():
            raise
        raise DeadlineExceeded("The request's deadline has passed.") from None
