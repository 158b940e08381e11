"""URLs of pictures: text in, its parts out, of which what is checked is what is used.

Two parsers that read a URL differently are how checks are evaded, so there is one here: a
pattern for the whole text, far stricter than RFC 3986. Knows no network and no settings.
"""

import binascii
import re
from collections.abc import Iterable
from ipaddress import IPv6Address
from typing import NamedTuple

from app.images.refusals import bad_url, too_large

MAX_WEB_URL_CHARS = 8192
MAX_DATA_HEADER_CHARS = 64
DEFAULT_PORTS = {"http": 80, "https": 443}

# No user, no backslash, no space or control character, nothing beyond ASCII, no closing dot.
_WEB_URL = re.compile(
    r"(?P<scheme>https?)://"
    r"(?:(?P<name>(?:[a-z0-9_-]{1,63}\.)*[a-z0-9_-]{1,63})|\[(?P<ipv6>[0-9a-f:.]*:[0-9a-f:.]*)\])"
    r"(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<target>[/?][!-\[\]-~]*)?",
    re.ASCII | re.IGNORECASE,
)
# TIFF and BMP are left out: hardly a client sends them, and TIFF's decoder is a large target.
_DATA_HEADER = re.compile(r"data:image/(?:png|jpe?g|webp|gif);base64", re.ASCII | re.IGNORECASE)


class DataURL(NamedTuple):
    """A picture inside the request."""

    payload: str
    """Base64, not yet checked."""

    def check_size(self, limit: int) -> None:
        """Raises InvalidRequest if it would decode to more than `limit` bytes."""
        if len(self.payload) * 3 // 4 - self.payload[-2:].count("=") > limit:
            raise too_large(limit, "bytes")

    def decode(self) -> bytes:
        """The encoded picture. Raises InvalidRequest unless it is base64 to the letter."""
        # Python 3.11's strict_mode lets `AAAA=` and `AAAA====` pass.
        if len(self.payload) % 4 or self.payload.endswith("==="):
            raise bad_url("base64 with wrong padding")
        try:
            return binascii.a2b_base64(self.payload, strict_mode=True)
        except ValueError as error:
            raise bad_url("broken base64") from error


class WebURL(NamedTuple):
    """A picture elsewhere; two spellings of one place may differ, one place never has two."""

    scheme: str
    host: str
    """In lower case, an IPv6 address without its brackets."""

    port: int
    target: str
    """Path and query, as they are sent."""

    @property
    def authority(self) -> str:
        """The Host header: without the port where it is the scheme's own (RFC 9110, 4.2.3)."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    def is_of(self, hosts: Iterable[str]) -> bool:
        """Whether its host is one of these: names, `*.names` of which it is below, or `*`."""
        return any(
            pattern in ("*", self.host)
            or (pattern.startswith("*.") and self.host.endswith(pattern[1:]))
            for pattern in map(str.lower, hosts)
        )


def parse_url(url: str) -> DataURL | WebURL:
    """What a URL says. Raises InvalidRequest, the same for all that cannot be used."""
    if url[:5].lower() == "data:":
        return parse_data_url(url)
    web = _WEB_URL.fullmatch(url.partition("#")[0]) if len(url) <= MAX_WEB_URL_CHARS else None
    if not web:
        raise bad_url("not a URL of a kind that is read")
    scheme, target = web["scheme"].lower(), web["target"] or "/"
    port = int(web["port"] or DEFAULT_PORTS[scheme])
    host = (web["name"] or web["ipv6"]).lower()
    if not 0 < port < 2**16 or len(host) > 253 or (web["ipv6"] and not is_ipv6(host)):
        raise bad_url("port or host out of range")
    return WebURL(scheme, host, port, target if target[0] == "/" else "/" + target)


def is_ipv6(text: str) -> bool:
    try:
        IPv6Address(text)
    except ValueError:
        return False
    return True


def parse_data_url(url: str) -> DataURL:
    header, comma, _ = url[:MAX_DATA_HEADER_CHARS].partition(",")
    payload = url[len(header) + 1 :]
    if not (comma and payload and _DATA_HEADER.fullmatch(header)):
        raise bad_url("a data: URL that is no base64 of a picture")
    return DataURL(payload)
