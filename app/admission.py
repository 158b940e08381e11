"""Who is let in: a permit around the whole ASGI call, taken before the body is read.

Outermost of all: also gives the request its record and writes its log line and metrics.
"""

import asyncio
import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from litestar.config.cors import CORSConfig
from litestar.connection import ASGIConnection
from litestar.enums import ScopeType
from litestar.handlers import BaseRouteHandler
from litestar.types import ASGIApp, HTTPScope, Receive, Scope, Send

from app.edge.cors import NO_HEADERS, cors_headers
from app.errors import Draining, ModelNotLoaded, Overloaded, ServerError, encode_error
from app.log import log_request
from app.metrics import Metrics
from app.models import ServedModels
from app.record import PROBE_PATHS, RequestRecord

logger = logging.getLogger(__name__)


class Admission:
    """Permits for requests in flight, and the drain that ends them."""

    def __init__(self, max_in_flight: int) -> None:
        self.max_in_flight = max_in_flight
        self.in_flight = 0
        self.draining_since: float | None = None

    @contextmanager
    def permit(self, path: str) -> Iterator[None]:
        """Hold one permit. Raises Draining and Overloaded, except for probes."""
        if path not in PROBE_PATHS:
            self.check()
        self.in_flight += 1
        try:
            yield
        finally:
            self.in_flight -= 1

    def check(self) -> None:
        if self.draining_since is not None:
            raise Draining("The server is shutting down.")
        if self.in_flight >= self.max_in_flight:
            raise Overloaded(f"All {self.max_in_flight} places for requests are taken.")

    def drain(self) -> None:
        """Let in nothing new; what is in flight goes on."""
        self.draining_since = time.monotonic()

    def is_drained(self, limit_seconds: float) -> bool:
        """Whether nothing is in flight any more, or the limit for waiting has passed."""
        if self.draining_since is None:
            return False
        return self.in_flight == 0 or time.monotonic() - self.draining_since > limit_seconds


class AdmissionMiddleware:
    """The ASGI callable that uvicorn runs: the application behind its admission."""

    def __init__(
        self, app: ASGIApp, admission: Admission, metrics: Metrics, cors: CORSConfig | None = None
    ) -> None:
        self.app = app
        self.admission = admission
        self.metrics = metrics
        self.cors = cors

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == ScopeType.HTTP:
            await self.serve(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def serve(self, scope: HTTPScope, receive: Receive, send: Send) -> None:
        record = RequestRecord(scope, send)
        scope["record"] = record  # type: ignore[typeddict-unknown-key]
        try:
            with self.admission.permit(record.path), record.held:
                await self.app(scope, receive, record.send_noted)
        except ServerError as error:
            record.error = error.code
            await refuse(error, record, cors_headers(self.cors, scope))
        except asyncio.CancelledError:
            record.error = "cancelled"
            raise
        finally:
            self.finish(scope, record)

    def finish(self, scope: HTTPScope, record: RequestRecord) -> None:
        route = route_of(scope)
        self.metrics.observe_request(record, route)
        log_request(record, route)


async def refuse(
    error: ServerError, record: RequestRecord, more: Mapping[str, str] = NO_HEADERS
) -> None:
    """Answer a request that was not let in, in its path's dialect."""
    status, body = encode_error(error, record.path)
    headers = {
        "content-type": "application/json",
        "content-length": str(len(body)),
        **error.headers,
        **more,
    }
    encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
    await record.send_noted({"type": "http.response.start", "status": status, "headers": encoded})
    await record.send({"type": "http.response.body", "body": body, "more_body": False})


def route_of(scope: HTTPScope) -> str:
    """The route's template, never the client's path: labels must not grow with traffic."""
    return scope.get("path_template") or "unknown"


def require_loaded(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    """Litestar guard of the generating routes. Raises ModelNotLoaded."""
    models: ServedModels = connection.app.state.models
    if models.status != "ready":
        raise ModelNotLoaded("The model is not loaded yet.")
