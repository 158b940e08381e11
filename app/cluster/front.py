"""The one address: an ASGI application that gives each request to a replica, and relays the reply.

Reads bodies only to choose. Everything else about a request is the replica's business, except
what to say when there is no replica, or when it dies.
"""

import asyncio
from contextlib import aclosing, suppress
from typing import Any

from litestar.types import HTTPScope, LifeSpanReceive, LifeSpanSend, Receive, Send

from app.admission import Admission, refuse
from app.auth import bearer_key, require_scope
from app.body import read_body
from app.cluster.affinity import affinity_key
from app.cluster.exchange import Headers, request_of
from app.cluster.exposition import FrontMetrics, merged
from app.cluster.fleet import Fleet
from app.cluster.relay import Relay, replica_of, send_whole, text_of
from app.disconnect import WhileConnected
from app.edge.cors import cors_config, cors_headers
from app.engine.base import Status
from app.errors import (
    ClientDisconnected,
    Draining,
    GenerationFailed,
    ModelNotLoaded,
    ServerError,
    Unauthorized,
)
from app.keys.caller import Caller
from app.keys.ring import KeyRing
from app.keys.watch import followed
from app.record import RequestRecord
from app.settings import Settings

WATCH_SECONDS = 1.0
LIVENESS = "/health/live"
READINESS = frozenset({"/health", "/health/ready"})
METRICS = "/metrics"
PROMETHEUS_TEXT = b"text/plain; version=0.0.4; charset=utf-8"


class Front:
    """Runs under the same server as the application of a single process, and stops like it."""

    def __init__(self, settings: Settings, fleet: Fleet) -> None:
        self.admission = Admission(settings.max_in_flight)
        self.models = self
        """See `server.Served`: here all replicas together."""

        self._settings = settings
        self._cors = cors_config(settings)
        self._fleet = fleet
        self._keys = KeyRing(settings)
        self._metrics = FrontMetrics()
        self._relays: set[Relay] = set()

    @property
    def status(self) -> Status:
        return self._fleet.status

    async def abort_all(self) -> None:
        """End every reply with an error event."""
        for relay in self._relays:
            relay.abort(GenerationFailed("The server is shutting down."))

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            await self._serve(scope, receive, send)

    async def _live(self, receive: LifeSpanReceive, send: LifeSpanSend) -> None:
        """Watch the fleet from startup to shutdown."""
        await receive()
        watching = asyncio.create_task(self._watch())
        async with followed(self._keys):
            await send({"type": "lifespan.startup.complete"})
            await receive()
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching
        await send({"type": "lifespan.shutdown.complete"})

    async def _watch(self) -> None:
        while True:
            await self._fleet.refresh()
            self._adapt()
            await asyncio.sleep(WATCH_SECONDS)

    def _adapt(self) -> None:
        """Let in what the replicas can take; without any, nobody waits for the next one."""
        ready = self._fleet.num_ready
        self.admission.max_in_flight = self._settings.max_in_flight * max(ready, 1)
        if ready:
            return
        for relay in self._relays:
            if not relay.has_begun:
                relay.abort(ModelNotLoaded("No replica is ready."))

    async def _serve(self, scope: HTTPScope, receive: Receive, send: Send) -> None:
        record = RequestRecord(scope, send)
        try:
            self._check(record.path)
            with self.admission.permit(record.path):
                await self._answer(scope, receive, record)
        except ClientDisconnected:
            pass
        except ServerError as error:
            self._metrics.requests.labels("none", error.code or error.type).inc()
            await refuse(error, record, scope, receive, cors_headers(self._cors, scope))

    def _check(self, path: str) -> None:
        """What a replica cannot say. Raises Draining and ModelNotLoaded."""
        if self.admission.draining_since is not None and path in READINESS:
            raise Draining("The server is shutting down.")
        if not self._fleet.num_ready and path not in (LIVENESS, METRICS):
            raise ModelNotLoaded("No replica is ready.")

    async def _answer(self, scope: HTTPScope, receive: Receive, record: RequestRecord) -> None:
        if record.path == LIVENESS:
            await send_whole(record, b'{"status":"alive"}', b"application/json")
        elif record.path == METRICS and record.method == "GET":
            await self._tell_metrics(scope, record)
        else:
            await self._forward(scope, receive, record)

    async def _forward(self, scope: HTTPScope, receive: Receive, record: RequestRecord) -> None:
        """Without a valid key not even the body: a replica refuses before it would read one."""
        headers = [each for each in scope["headers"] if each[0] != b"x-request-id"]
        headers += record.headers
        limit = self._settings.max_body_bytes
        body = await read_body(receive, limit) if self._knows(headers) else b""
        request = request_of(scope, headers, body)
        async with aclosing(self._fleet.ask(request, affinity_key(headers, body))) as replies:
            await self._relay(Relay(record, replies), receive)
            # What the replica still does after its last message it does undisturbed.
            with suppress(ServerError):
                async for _ in replies:
                    pass

    async def _relay(self, relay: Relay, receive: Receive) -> None:
        """Raises ServerError where nothing has been sent, and ClientDisconnected."""
        self._relays.add(relay)
        try:
            with WhileConnected(relay.record.client, receive):
                await relay.run()
        except ClientDisconnected as error:
            relay.record.error = error.code
            raise
        finally:
            self._relays.discard(relay)
            if relay.has_begun:
                outcome = relay.record.error or "answered"
                self._metrics.requests.labels(relay.replica, outcome).inc()

    def _knows(self, headers: Headers) -> bool:
        try:
            self._caller(headers)
        except Unauthorized:
            return False
        return True

    def _caller(self, headers: Headers) -> Caller:
        """Of several keys the first counts, as for a replica. Raises Unauthorized."""
        presented = (value for name, value in headers if name == b"authorization")
        return self._keys.caller(bearer_key(next(presented, b"").decode("latin-1")))

    async def _tell_metrics(self, scope: HTTPScope, record: RequestRecord) -> None:
        """Ours and every replica's. Raises Unauthorized and Forbidden."""
        require_scope(self._caller(scope["headers"]), "metrics", self._keys)
        self._metrics.ready.set(self._fleet.num_ready)
        self._metrics.in_flight.set(self.admission.in_flight)
        replies = await self._fleet.ask_all(request_of(scope, scope["headers"], b""))
        texts = {replica_of(reply): text_of(reply) for reply in replies}
        known = {replica: text for replica, text in texts.items() if text is not None}
        text = await asyncio.to_thread(merged, self._metrics.registry, known)
        await send_whole(record, text, PROMETHEUS_TEXT)
