"""`OPTIONS` of paths that several handlers share: Litestar's own answer knows only the first."""

from typing import Any

from litestar import HttpMethod, Request, Response, route
from litestar.handlers import HTTPRouteHandler


def methods_of(*paths: str) -> HTTPRouteHandler:
    """The handler that says which methods these take; give it to the router before theirs."""
    handler = route(list(paths), http_method=[HttpMethod.OPTIONS], include_in_schema=False)
    return handler(list_methods)


async def list_methods(request: Request[Any, Any, Any]) -> Response[None]:
    methods = request.app.route_handler_method_map[request.scope["path_template"]]
    return Response(None, status_code=204, headers={"allow": ", ".join(sorted(methods))})
