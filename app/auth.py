"""Bearer keys: with keys configured, every route needs one unless its handler is marked open.

Routes that change what is served need an admin's key, also where no other key is needed.
"""

import hashlib
import hmac
from collections.abc import Iterable
from typing import Any

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from app.errors import Forbidden, Unauthorized

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


Connection = ASGIConnection[Any, Any, Any, Any]


def require_key(connection: Connection, handler: BaseRouteHandler) -> None:
    """Litestar guard of the whole application; runs before the body is read.

    Raises Unauthorized.
    """
    state = connection.app.state
    if not state.key_ring or handler.opt.get("open"):
        return
    key = bearer_key(connection)
    if not (state.key_ring.accepts(key) or state.admin_ring.accepts(key)):
        raise Unauthorized("This server needs a valid key: Authorization: Bearer <key>.")


def require_admin(connection: Connection, _: BaseRouteHandler) -> None:
    """Litestar guard of the routes that change what is served. Raises Unauthorized, Forbidden."""
    state = connection.app.state
    key = bearer_key(connection)
    if state.admin_ring.accepts(key):
        return
    if not state.admin_ring:
        raise Forbidden("Nobody may manage adapters here: no admin key is set (LLM_ADMIN_KEYS).")
    if state.key_ring.accepts(key):
        raise Forbidden("This key may not manage adapters; it takes an admin's key.")
    raise Unauthorized("This route needs an admin's key: Authorization: Bearer <key>.")


def bearer_key(connection: Connection) -> str:
    """The presented key, empty if there is none."""
    scheme, _, key = connection.headers.get("authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""
