"""Request bodies: bytes in, one struct out, decoded in a single pass before the handler runs."""

import re
from functools import cache
from typing import Any, NoReturn

import msgspec
from litestar import Request
from litestar.datastructures import State
from litestar.exceptions import InternalServerException

from app.errors import ClientDisconnected, InvalidRequest, UnsupportedMedia

PATH_IN_MESSAGE = re.compile(r"^(?P<reason>.*) - at (?:`key` in )?`\$(?P<path>.*)`$", re.DOTALL)
FIELD_IN_REASON = re.compile(r"(?:unknown|required) field `(?P<name>[^`]*)`")


class JSONRequest(Request[Any, Any, State]):
    """A request whose `data` parameter is decoded straight into the handler's struct.

    Litestar decodes to dicts and converts those; here the struct that comes out of msgspec is
    handed through its conversion untouched, and errors name the field they are about.
    """

    async def body(self) -> bytes:
        """The bytes of the body. Raises InvalidRequest for none, and ClientDisconnected."""
        try:
            body = await super().body()
        except InternalServerException as error:
            raise ClientDisconnected("The client left before its request was complete.") from error
        if not body:
            raise InvalidRequest("The body is empty; a JSON object is expected.")
        return body

    async def json(self) -> Any:
        """The body as the handler's struct.

        Raises UnsupportedMedia and InvalidRequest.
        """
        check_content_type(self.headers.get("content-type", ""))
        field = self.route_handler.parsed_data_field
        return decode_body(await self.body(), field.annotation if field else Any)


def check_content_type(content_type: str) -> None:
    """Refuse what does not call itself JSON: any web page can send forms and plain text here."""
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type != "application/json" and not media_type.endswith("+json"):
        kind = media_type[:64] or "nothing"
        raise UnsupportedMedia(f"Content-Type must be application/json, not {kind}.")


def decode_body(body: bytes, struct: Any) -> Any:
    """Decode once; any reason why it cannot be decoded becomes an InvalidRequest."""
    try:
        return decoder(struct).decode(body)
    except msgspec.ValidationError as error:
        refuse_field(str(error))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(f"The body is not valid JSON: {describe(error)}.") from error


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
    raise InvalidRequest(f"{path}: {reason}." if path else f"{reason}.", param=param or None)


def describe(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8"
    return str(error)
