"""A request's head as the parser leaves it: version and headers in, or the reason to refuse it.

The parser itself (llhttp, without its leniencies) refuses both framings at once, a length sent
twice, white space before a colon, folded lines and lines that end with a bare LF.
"""

import re
from collections.abc import Sequence

from app.errors import MalformedHTTP

Headers = Sequence[tuple[bytes, bytes]]

VERSIONS = frozenset({"1.0", "1.1"})
HOST = re.compile(rb"(?:[0-9A-Za-z._~!$&'()*+,;=%-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]*)?")
"""RFC 3986, 3.2.2 and 3.2.3; what this leaves out could be taken for a path."""


def check_head(method: bytes, version: str, headers: Headers) -> None:
    """Raises MalformedHTTP where servers in a row could disagree on what a request is."""
    if method == b"CONNECT":
        raise MalformedHTTP("CONNECT: nothing is tunnelled here.")
    if version not in VERSIONS:
        raise MalformedHTTP("Only HTTP/1.1 and HTTP/1.0 are spoken here.")
    check_host(values_of(b"host", headers), is_needed=version == "1.1")
    codings = values_of(b"transfer-encoding", headers)
    if codings and (version == "1.0" or [coding.lower() for coding in codings] != [b"chunked"]):
        raise MalformedHTTP("Transfer-Encoding: only chunked is known, in HTTP/1.1.")


def check_host(hosts: list[bytes], *, is_needed: bool) -> None:
    """RFC 9112, 3.2: one, well-formed."""
    if len(hosts) > 1 or (is_needed and not hosts):
        raise MalformedHTTP(f"Host: expected exactly one such header, got {len(hosts)}.")
    if hosts and not HOST.fullmatch(hosts[0]):
        raise MalformedHTTP("Host: expected a name or an address, perhaps with a port.")


def values_of(wanted: bytes, headers: Headers) -> list[bytes]:
    return [value for name, value in headers if name == wanted]
