"""Request bodies: bytes in, one struct out, decoded in a single pass before the handler runs."""

import math
import re
from collections.abc import Mapping
from functools import cache, cached_property
from typing import Any, NoReturn

import jiter
import msgspec
from litestar import Request
from litestar.datastructures import State
from litestar.exceptions.http_exceptions import RequestEntityTooLarge
from litestar.types import Receive

from app.errors import ClientDisconnected, InvalidRequest, UnsupportedMedia

PATH_IN_MESSAGE = re.compile(r"^(?P<reason>.*) - at (?:`key` in )?`\$(?P<path>.*)`$", re.DOTALL)
NAME_IN_REASON = re.compile(r"`(?P<name>[^`]*)`")
TWICE = re.compile(r'Detected duplicate key "(?P<name>.*)" at line \d+ column \d+', re.DOTALL)
FIELD_IN_REASON = re.compile(r"(?:unknown|required) field `(?P<name>[^`]*)`")

SHOWN_CHARS = 128
"""Of a client's own text in an error: enough to find it by."""

DENSE_BODY_BYTES = 2**20
"""Up to here even a body of nothing but brackets is decoded in some 50 ms."""

MOST_CONTAINERS, MOST_COMMAS = 2**18, 2**21
"""Decoding so many takes some 100 ms; a text with more is longer than any context."""


class JSONRequest(Request[Any, Any, State]):
    """A request whose `data` parameter is decoded straight into the handler's struct.

    Litestar decodes to dicts and converts those; here the struct that comes out of msgspec is
    handed through its conversion untouched, and errors name the field they are about.
    """

    _whole: bytes | None = None

    @cached_property
    def headers(self) -> Mapping[str, str]:  # type: ignore[override]
        """By name, in lower case; of several with one name the first.

        Litestar's own keep all of them, and take three times as long to make.
        """
        last_first = [*self.scope["headers"]][::-1]
        return {name.decode("latin-1"): value.decode("latin-1") for name, value in last_first}

    async def body(self) -> bytes:
        """The bytes of the body, read once.

        Raises InvalidRequest for none, RequestEntityTooLarge and ClientDisconnected.
        """
        if self._whole is None:
            self._whole = await self._read()
        if not self._whole:
            raise InvalidRequest("The body is empty; a JSON object is expected.")
        return self._whole

    async def _read(self) -> bytes:
        most_bytes = self.route_handler.resolve_request_max_body_size() or math.inf
        if int(self.headers.get("content-length", 0)) > most_bytes:
            raise RequestEntityTooLarge
        body = await read_body(self.receive, most_bytes)
        if len(body) > most_bytes:
            raise RequestEntityTooLarge
        return body

    async def json(self) -> Any:
        """The body as the handler's struct.

        Raises UnsupportedMedia and InvalidRequest.
        """
        check_content_type(self.headers.get("content-type", ""))
        check_encoding(self.headers.get("content-encoding", "identity"))
        field = self.route_handler.parsed_data_field
        return decode_body(await self.body(), field.annotation if field else Any)


async def read_body(receive: Receive, most_bytes: float) -> bytes:
    """A request's body; of one that is too large, so much that it can be seen.

    Raises ClientDisconnected.
    """
    parts, size, has_more = list[bytes](), 0, True
    while has_more and size <= most_bytes:
        message = await receive()
        if message["type"] != "http.request":
            raise ClientDisconnected("The client left before its request was complete.")
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        has_more = message.get("more_body", False)
    return b"".join(parts)


def check_content_type(content_type: str) -> None:
    """Refuse what does not call itself JSON: any web page can send forms and plain text here."""
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type != "application/json" and not media_type.endswith("+json"):
        kind = media_type[:64] or "nothing"
        raise UnsupportedMedia(f"Content-Type must be application/json, not {kind}.")


def check_encoding(encoding: str) -> None:
    """A compressed body could become any size. Raises UnsupportedMedia."""
    if encoding.strip().lower() != "identity":
        kind = encoding[:64]
        raise UnsupportedMedia(f"Content-Encoding must be absent or identity, not {kind}.")


def decode_body(body: bytes, struct: Any) -> Any:
    """Decode once; any reason why it cannot be decoded becomes an InvalidRequest."""
    check_density(body)
    try:
        decoded = decoder(struct).decode(body)
    except msgspec.ValidationError as error:
        refuse_field(str(error))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(f"The body is not valid JSON: {describe(error)}.") from error
    check_names(body)
    return decoded


def check_density(body: bytes) -> None:
    """Small values by the million hold the loop while they are decoded. Raises InvalidRequest."""
    if len(body) <= DENSE_BODY_BYTES:
        return
    if (containers := body.count(b"{") + body.count(b"[")) > MOST_CONTAINERS:
        refuse_dense("opening brackets", containers, MOST_CONTAINERS)
    if (commas := body.count(b",")) > MOST_COMMAS:
        refuse_dense("commas", commas, MOST_COMMAS)


def refuse_dense(what: str, found: int, most: int) -> NoReturn:
    raise InvalidRequest(f"The body has {found} {what}; this server takes at most {most}.")


def check_names(body: bytes) -> None:
    """Refuse a name that an object has twice: whoever judged the request on its way here may have
    read the other value. msgspec takes the last without a word. Raises InvalidRequest."""
    try:
        jiter.from_json(body, catch_duplicate_keys=True, cache_mode="none")
    except ValueError as error:
        match = TWICE.match(str(error))
        if match is None:
            raise InvalidRequest(
                f"The body is not valid JSON: {str(error)[:SHOWN_CHARS]}."
            ) from None
        name = match["name"]
        shown = name[:SHOWN_CHARS]
        raise InvalidRequest(f"{shown}: an object has this field twice.", param=name) from None


@cache
def decoder(struct: Any) -> msgspec.json.Decoder[Any]:
    """One decoder a struct, made on its first request."""
    return msgspec.json.Decoder(struct)


def refuse_field(message: str) -> NoReturn:
    """Turn msgspec's message into one that begins with the field's name."""
    match = PATH_IN_MESSAGE.match(message)
    reason, path = (match["reason"], match["path"].lstrip(".")) if match else (message, "")
    named = FIELD_IN_REASON.search(reason)
    param = ".".join(filter(None, (path, named["name"] if named else "")))
    reason, path = shortened(reason), path[:SHOWN_CHARS]
    raise InvalidRequest(f"{path}: {reason}." if path else f"{reason}.", param=param or None)


def shortened(reason: str) -> str:
    """Client's names are in it, of any length."""
    return NAME_IN_REASON.sub(lambda match: f"`{match['name'][:SHOWN_CHARS]}`", reason)


def describe(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8"
    return str(error)
