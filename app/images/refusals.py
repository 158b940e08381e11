"""Why a picture is not taken: a reason in, the error for the client out.

What goes wrong with a URL is told the client in one fixed sentence, whatever it was: a different
one for a closed port, a private address or a redirect would make this server a port scanner.
The reason goes to the log, which learns neither the URL nor the host.
"""

import logging

from app.errors import InvalidRequest

BAD_URL = (
    "image_url: no picture could be read from this URL; "
    "data: URLs must be base64 of a PNG, JPEG, WebP or GIF picture."
)
FETCHING_IS_OFF = "image_url: this server fetches no pictures from URLs; send a data: URL."
UNDECODABLE = "image_url: the picture could not be decoded; it must be PNG, JPEG, WebP or GIF."

logger = logging.getLogger(__name__)


def bad_url(reason: str) -> InvalidRequest:
    """The error for every URL from which no picture was had."""
    logger.info("no picture from a URL: %s", reason)
    return InvalidRequest(BAD_URL, code="invalid_image_url")


def fetching_is_off() -> InvalidRequest:
    """The error for http(s) URLs where no host is allowed: it tells of the settings alone."""
    return InvalidRequest(FETCHING_IS_OFF, code="invalid_image_url")


def undecodable(reason: str) -> InvalidRequest:
    """The error for bytes that are no picture; the decoder's own words may hold addresses."""
    logger.info("a picture could not be decoded: %s", reason)
    return InvalidRequest(UNDECODABLE, code="invalid_image")


def too_large(limit: int, unit: str) -> InvalidRequest:
    """The error for a picture with more pixels or bytes than it may have."""
    message = f"image_url: a picture may have at most {limit} {unit}."
    return InvalidRequest(message, code="image_too_large")
