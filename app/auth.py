"""Bearer keys: with keys configured, every route needs one unless its handler is marked open."""

import hashlib
import hmac
from collections.abc import Iterable
from typing import Any

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from app.errors import Unauthorized

OPEN = {"open": True}
"""Pass as a handler's `opt` to serve it without a key; nothing is open by its path."""


class KeyRing:
    """The accepted keys, held as SHA-256 digests so that a memory dump has no key in it."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._digests = [digest(key) for key in keys]

    def __bool__(self) -> bool:
        return bool(self._digests)

    def accepts(self, key: str) -> bool:
        """Compare with every key in constant time, so that timing tells nothing."""
        presented = digest(key)
        return any(hmac.compare_digest(presented, known) for known in self._digests)


def digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def require_key(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """Litestar guard of the whole application; runs before the body is read.

    Raises Unauthorized.
    """
    key_ring: KeyRing = connection.app.state.key_ring
    if not key_ring or handler.opt.get("open"):
        return
    scheme, _, key = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not key_ring.accepts(key.strip()):
        raise Unauthorized("This server needs a valid key: Authorization: Bearer <key>.")
