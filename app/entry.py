"""What stands between a request's head and its body: keys, shares, the model, earlier answers."""

from typing import Any

from litestar import Request, Response

from app.admission import require_loaded, require_share
from app.auth import require_key
from app.reuse.idempotency import replay

LOADED = {"loaded": True}
"""Pass as the `opt` of a handler or a router that needs the model."""


async def enter(request: Request[Any, Any, Any]) -> Response[None] | None:
    """Litestar's `before_request`, where guards would each get a copy of the handler.

    Returns the answer that the request got before, if it did: to its owner alone, so that comes
    last. Raises what `require_key`, `require_share`, `require_loaded` and `replay` raise.
    """
    handler = request.route_handler
    require_key(request, handler)
    require_share(request)
    if handler.opt.get("loaded"):
        require_loaded(request)
    return await replay(request)
