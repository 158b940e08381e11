"""Who is let in: a permit around the whole ASGI call, taken before the body is read.

Outermost of all: also gives the request its record and writes its log line and metrics.
"""

import asyncio
import logging
import math
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from litestar.config.cors import CORSConfig
from litestar.connection import ASGIConnection
from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Receive, Scope, Send

from app.edge.cors import NO_HEADERS, cors_headers
from app.errors import Draining, ModelNotLoaded, Overloaded, ServerError, encode_error
from app.log import log_request
from app.metrics import Metrics
from app.models import ServedModels
from app.queueing.pace import Pace
from app.record import PROBE_PATHS, RequestRecord

logger = logging.getLogger(__name__)

LINGER_SECONDS = 5
"""For a body that nobody wants; nginx's `lingering_timeout` is the same."""


class Admission:
    """Permits for requests in flight, and the drain that ends them."""

    def __init__(self, max_in_flight: int, owner_share: float = 1.0) -> None:
        """`owner_share`: of all permits, what the requests with one key may hold."""
        self.max_in_flight = max_in_flight
        self.max_of_owner = math.ceil(max_in_flight * owner_share)
        self.in_flight = 0
        self._owners: Counter[str] = Counter()
        self._pace = Pace()
        self.draining_since: float | None = None

    @contextmanager
    def permit(self, path: str) -> Iterator[None]:
        """Hold one permit. Raises Draining and Overloaded, except for probes."""
        if path not in PROBE_PATHS:
            self.check()
        self.in_flight += 1
        started = time.monotonic()
        try:
            yield
        finally:
            self.in_flight -= 1
            self._pace.note(time.monotonic() - started)

    @contextmanager
    def claim(self, owner: str) -> Iterator[None]:
        """Count a permit as this owner's, once it is known. Raises Overloaded.

        Without keys all are one owner, who may have everything.
        """
        if owner and self._owners[owner] >= self.max_of_owner:
            raise self._overloaded(f"This key holds {self.max_of_owner} places for requests.")
        self._owners[owner] += 1
        try:
            yield
        finally:
            self._owners[owner] -= 1

    def _overloaded(self, sentence: str) -> Overloaded:
        """Others who wait also want the places that become free: all of them must do so once."""
        seconds = self._pace.retry_after(self.max_in_flight, self.max_in_flight)
        return Overloaded(sentence, retry_after_seconds=seconds)

    def check(self) -> None:
        if self.draining_since is not None:
            raise Draining("The server is shutting down.")
        if self.in_flight >= self.max_in_flight:
            raise self._overloaded(f"All {self.max_in_flight} places for requests are taken.")

    def drain(self) -> None:
        """Let in nothing new; what is in flight goes on."""
        self.draining_since = time.monotonic()

    def is_drained(self, most_seconds: float, least_seconds: float = 0.0) -> bool:
        """Whether nothing is in flight any more, between the least and the most time for that."""
        if self.draining_since is None:
            return False
        seconds = time.monotonic() - self.draining_since
        return seconds >= least_seconds and (self.in_flight == 0 or seconds > most_seconds)


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
            await refuse(error, record, scope, receive, cors_headers(self.cors, scope))
        except asyncio.CancelledError:
            record.error = "cancelled"
            raise
        finally:
            self.finish(scope, record)

    def finish(self, scope: HTTPScope, record: RequestRecord) -> None:
        """Count it, log it, and part what refers to each other: none waits for the collector."""
        route = route_of(scope)
        self.metrics.observe_request(record, route)
        log_request(record, route)
        for name in ("record", "extensions"):
            scope.pop(name, None)  # type: ignore[misc]


async def refuse(
    error: ServerError,
    record: RequestRecord,
    scope: HTTPScope,
    receive: Receive,
    more: Mapping[str, str] = NO_HEADERS,
) -> None:
    """Answer a request that was not let in, in its path's dialect, without asking for its body.

    One that is on its way when a connection is to be closed is read first: closing at once resets
    it, which could destroy the answer (RFC 9112, 9.6). One that was only announced may not come.
    """
    status, body = encode_error(error, record.path)
    headers = {
        "content-type": "application/json",
        "content-length": str(len(body)),
        **error.headers,
        **more,
    }
    is_announced = (b"expect", b"100-continue") in scope["headers"]
    encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
    await record.send_noted({"type": "http.response.start", "status": status, "headers": encoded})
    await record.send({"type": "http.response.body", "body": body, "more_body": True})
    if headers.get("connection") == "close" and not is_announced:
        await discard_body(receive)
    await record.send({"type": "http.response.body", "body": b"", "more_body": False})


async def discard_body(receive: Receive) -> None:
    """Read what the client still sends, for a while."""
    with suppress(TimeoutError):
        async with asyncio.timeout(LINGER_SECONDS):
            while (await receive()).get("more_body"):
                pass


def route_of(scope: HTTPScope) -> str:
    """The route's template, never the client's path: labels must not grow with traffic."""
    return scope.get("path_template") or "unknown"


def require_share(connection: ASGIConnection[Any, Any, Any, Any]) -> None:
    """For a request whose caller is known.

    Raises Overloaded if requests with this key hold more than their share of the permits, except
    for probes.
    """
    record: RequestRecord = connection.scope["record"]  # type: ignore[typeddict-item]
    admission: Admission = connection.app.state.admission
    if record.path not in PROBE_PATHS:
        record.held.enter_context(admission.claim(record.owner))


def require_loaded(connection: ASGIConnection[Any, Any, Any, Any]) -> None:
    """For a request that needs the model. Raises ModelNotLoaded.

    For an engine that is only stalled, or restarting, requests wait where they are submitted.
    """
    models: ServedModels = connection.app.state.models
    if models.status in ("loading", "failed"):
        raise ModelNotLoaded("The model is not loaded yet.")
