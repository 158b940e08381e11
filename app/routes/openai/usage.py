"""`GET /v1/usage`: what keys have used; each key reads its own, an admin's key everybody's."""

import datetime
from collections.abc import Sequence
from typing import Annotated, cast

import msgspec
from litestar import Request, get
from litestar.datastructures import State
from litestar.params import Parameter
from msgspec import UNSET

from app.errors import InvalidRequest
from app.record import RequestRecord
from app.routes.parameters import OPENAI_READING, openai_errors
from app.usage.counts import HOUR_SECONDS, Counts, Group, hour_now
from app.usage.database import DIMENSIONS, Dimension
from app.usage.ledger import MAX_GROUPS, Ledger
from schemas.usage import UsageReport, UsageSum

DEFAULT_DAYS = 30


@get("/usage", responses=OPENAI_READING | openai_errors(400))
async def read_usage(
    request: Request[None, None, State],
    since: Annotated[
        str | None, Parameter(description="ISO 8601, in UTC if it says no zone; 30 days ago.")
    ] = None,
    until: Annotated[str | None, Parameter(description="The same; whole hours. Now.")] = None,
    group_by: Annotated[
        str, Parameter(description=f"Any of {', '.join(DIMENSIONS)}, separated by commas.")
    ] = "key,model",
    limit: Annotated[int, Parameter(ge=1, le=1000, description="Sums in one page.")] = 100,
    offset: Annotated[int, Parameter(ge=0, le=MAX_GROUPS, description="Sums to skip.")] = 0,
) -> UsageReport:
    """Requests and tokens, summed over whole hours."""
    record: RequestRecord = request.scope["record"]  # type: ignore[typeddict-item]
    ledger: Ledger = request.app.state.ledger
    caller = record.caller
    by, hours = dimensions(group_by), hours_of(since, until)
    own = None if caller.grant.has("admin") else caller.alias
    sums = await ledger.sums(by, hours, own)
    if len(sums) > MAX_GROUPS:
        raise InvalidRequest(
            f"group_by: gives more than {MAX_GROUPS} sums; ask for fewer hours.", param="group_by"
        )
    page = sorted(sums)[offset : offset + limit]
    return UsageReport(
        since=hour_text(hours.start),
        until=hour_text(hours.stop),
        data=[usage_sum(by, group, sums[group]) for group in page],
        has_more=len(sums) > offset + limit,
    )


def dimensions(text: str) -> list[Dimension]:
    """Raises InvalidRequest."""
    names = text.split(",")
    if len(set(names)) < len(names) or not set(names) <= set(DIMENSIONS):
        raise InvalidRequest(
            f"group_by: expected some of {', '.join(DIMENSIONS)}, each once, separated by commas.",
            param="group_by",
        )
    if {"hour", "day"} <= set(names):
        raise InvalidRequest("group_by: expected one of hour and day.", param="group_by")
    return cast(list[Dimension], names)


def hours_of(since: str | None, until: str | None) -> range:
    """Every past hour of which a part lies between the two. Raises InvalidRequest."""
    stop = hour_now() + 1
    if until is not None:
        stop = min(stop, -(-seconds_of(until, "until") // HOUR_SECONDS))
    start = stop - DEFAULT_DAYS * 24
    if since is not None:
        start = seconds_of(since, "since") // HOUR_SECONDS
    hours = range(max(start, 0), max(stop, 0))
    if not hours:
        raise InvalidRequest("since: expected a time in the past, before until.", param="since")
    return hours


def seconds_of(text: str, param: str) -> int:
    """Since 1970. Raises InvalidRequest."""
    try:
        moment = datetime.datetime.fromisoformat(text)
        aware = moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)
        return int(aware.timestamp())
    except (ValueError, OverflowError) as error:
        raise InvalidRequest(
            f"{param}: expected a date or time such as 2026-12-31 or 2026-12-31T18:00:00Z.",
            param=param,
        ) from error


def hour_text(hour: int) -> str:
    moment = datetime.datetime.fromtimestamp(hour * HOUR_SECONDS, datetime.UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def usage_sum(by: Sequence[Dimension], group: Group, counts: Counts) -> UsageSum:
    named = dict(zip(by, group, strict=True))
    hour = named.pop("hour", named.pop("day", None))
    return UsageSum(
        **named,
        start=UNSET if hour is None else hour_text(hour),
        **msgspec.structs.asdict(counts),
        total_tokens=counts.prompt_tokens + counts.completion_tokens,
    )
