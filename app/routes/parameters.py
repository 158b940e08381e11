"""Handler parameters and documentation that routes share."""

from collections.abc import Iterable
from typing import Any, TypeAlias
from urllib.parse import quote

import msgspec
from litestar.openapi.datastructures import ResponseSpec

from app.tools.offer import Offer
from app.tools.structured import Format
from schemas.errors import ErrorDetail, ErrorReply

ALIASES_HEADER = "x-schema-aliases"
CHECKED_AFTER_HEADER = "x-schema-checked-after"
MAX_HEADER_CHARS = 1024

Responses: TypeAlias = dict[int, ResponseSpec]

ERRORS = {
    400: "A field is missing, unknown, of the wrong kind or out of range.",
    401: "The server needs a key, and this is none of its keys.",
    403: "The key is not for this.",
    404: "There is no such model or adapter.",
    409: "It does not go with what is here already, or its Idempotency-Key had another body.",
    413: "The body is larger than this server takes.",
    415: "The body does not call itself JSON.",
    422: "The adapter's files are not what they should be.",
    429: "Too much for this key. `Retry-After` says when to come back.",
    500: "The server failed to answer.",
    503: "Not now. `Retry-After` says when to come back.",
    504: "The request's own deadline has passed.",
}
"""What each status means to clients. 404 for an unknown path and 405 are HTTP's own."""

NATIVE_STATUS = {400: 422}
"""What the native routes answer instead."""


def reply_of(reply: Any) -> Responses:
    """What the API document says a route answers; handlers return encoded bytes."""
    return {200: ResponseSpec(reply, generate_examples=False, description="The reply.")}


def native_errors(*statuses: int) -> Responses:
    """The errors of a native route, for the API document."""
    return {NATIVE_STATUS.get(status, status): error_of(ErrorDetail, status) for status in statuses}


def openai_errors(*statuses: int) -> Responses:
    """The errors of a `/v1` route, for the API document."""
    return {status: error_of(ErrorReply, status) for status in statuses}


def error_of(body: type[msgspec.Struct], status: int) -> ResponseSpec:
    return ResponseSpec(body, generate_examples=False, description=ERRORS[status])


def unready(body: Any) -> Responses:
    """What a probe answers while the model does not, for the API document."""
    return {503: ResponseSpec(body, generate_examples=False, description="Not ready.")}


READING = (401, 403, 429, 500, 503)
"""Of any route that is not open to everybody."""

SENDING = (400, 409, 413, 415, *READING)
"""Of those that take a body."""

GENERATING = (*SENDING, 404, 504)
"""Of those that ask the engine."""

NATIVE_READING = native_errors(*READING)
NATIVE_GENERATING = native_errors(*GENERATING)
OPENAI_READING = openai_errors(*READING)
OPENAI_GENERATING = openai_errors(*GENERATING)


def schema_headers(asked: Offer | Format | None) -> dict[str, str]:
    """Headers that tell which loose type names were read as what, and which keywords are checked
    only when a reply is complete; there if there are any."""
    if isinstance(asked, Offer):
        schemas = [(each.param, each.schema) for each in asked.callables.values()]
    else:
        schemas = [(asked.param, asked.schema)] if asked and asked.schema else []
    aliases = sorted({alias for _, schema in schemas for alias in schema.aliases})
    checked = [f"{param}{pointer}" for param, schema in schemas for pointer in schema.checked]
    headers = {ALIASES_HEADER: listed(aliases), CHECKED_AFTER_HEADER: listed(checked)}
    return {name: value for name, value in headers.items() if value}


def listed(names: Iterable[str]) -> str:
    """A header's value of bounded length; what is not plain ASCII is percent-encoded."""
    text = ", ".join(quote(name, safe="/[]=.$_-~") for name in names)
    return text if len(text) <= MAX_HEADER_CHARS else f"{text[: MAX_HEADER_CHARS - 3]}..."
