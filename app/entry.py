"""What stands between a request's head and its body: keys, shares, and whether there is a model."""

from typing import Any

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from app.admission import require_loaded, require_share
from app.auth import require_key

LOADED = {"loaded": True}
"""Pass as the `opt` of a handler or a router that needs the model."""


async def require_entry(
    connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler
) -> None:
    """The only guard: Litestar copies the handler for each, and runs plain functions in threads.

    Raises what `require_key`, `require_share` and `require_loaded` raise.
    """
    require_key(connection, handler)
    require_share(connection)
    if handler.opt.get("loaded"):
        require_loaded(connection)
