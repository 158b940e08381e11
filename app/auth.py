"""Who is calling, and whether they may: with keys configured, every route needs one.

What a route needs is said on its handler; nothing is open, or needs less, by its path.
"""

from typing import Any

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from app.errors import Forbidden, Unauthorized
from app.keys.caller import NOBODY, Caller
from app.keys.grant import Scope
from app.keys.ring import KeyRing
from app.record import RequestRecord
from app.usage.ledger import Ledger

OPEN = {"open": True}
"""Pass as a handler's `opt` to serve it without a key."""

Connection = ASGIConnection[Any, Any, Any, Any]


def needs(scope: Scope) -> dict[str, Scope]:
    """Pass as the `opt` of a handler or a router; what says nothing needs the scope `read`."""
    return {"scope": scope}


def require_key(connection: Connection, handler: BaseRouteHandler) -> None:
    """From here on the request's record knows its caller. Raises Unauthorized, Forbidden and
    RateLimited.
    """
    if handler.opt.get("open"):
        return
    ring: KeyRing = connection.app.state.key_ring
    record: RequestRecord = connection.scope["record"]  # type: ignore[typeddict-item]
    caller = ring.caller(bearer_key(connection.headers.get("authorization", "")))
    record.caller = caller
    require_scope(caller, handler.opt.get("scope", "read"), ring)
    record.held.enter_context(caller.admitted())
    record.held.callback(
        settle, record, connection.app.state.ledger, connection.scope["path_template"]
    )


def settle(record: RequestRecord, ledger: Ledger, route: str) -> None:
    """What the request has used, now that it has ended."""
    tokens = record.tokens
    record.caller.settle(record.reserved_tokens, tokens.used if tokens else 0)
    if record.model is not None and tokens is not None:
        ledger.count(record.caller.alias, record.model, route, tokens)


def require_scope(caller: Caller, scope: Scope, ring: KeyRing) -> None:
    """Raises Unauthorized where another key would do, and Forbidden."""
    if caller.grant.has(scope):
        return
    if caller is not NOBODY:
        raise Forbidden(f"The key {caller.alias!r} may not do this: it lacks the scope {scope!r}.")
    if ring.anybody_has(scope):
        raise Unauthorized(f"This route needs a key with the scope {scope!r}.")
    raise Forbidden(f"Nobody may do this here: no key has the scope {scope!r} (LLM_ADMIN_KEYS).")


def bearer_key(header: str) -> str:
    """The key of an Authorization header, empty if there is none."""
    scheme, _, key = header.partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""
