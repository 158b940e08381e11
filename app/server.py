"""uvicorn with our way of stopping: a drain that answers, before the listener closes."""

import asyncio
import logging
import signal
import socket
from types import FrameType
from typing import Any, Protocol

import uvicorn

from app.admission import Admission
from app.edge.protocol import edge_protocol, sweep
from app.engine.base import Status
from app.errors import ServerError
from app.settings import Settings

logger = logging.getLogger(__name__)

ENGINE_FAILED_EXIT = 70
TICKS_PER_SWEEP = 10
ABORT_SECONDS = 5
"""For aborted requests to send their error event, after the drain has run out of time."""


class Loading(Protocol):
    """What is served, and whether it is there."""

    @property
    def status(self) -> Status: ...


class Served(Protocol):
    """An ASGI application that can be watched and drained: one process, or a cluster's front."""

    admission: Admission

    @property
    def models(self) -> Loading: ...

    async def abort_all(self) -> None:
        """End every waiting and running request with an error. Raises ServerError."""
        ...

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None: ...


class DrainingServer(uvicorn.Server):
    """On SIGTERM or SIGINT: new requests get 503, running ones finish, then it ends.

    After SIGTERM the port stays open for a while, for load balancers that have yet to notice that
    this server is not ready; Ctrl-C has none. A second signal, or the limit on the drain, aborts
    what is left with an error event. Ends with a status of its own if the engine failed, so that
    whatever supervises it starts it again.
    """

    def __init__(self, app: Served, settings: Settings) -> None:
        super().__init__(uvicorn_config(app, settings))
        self.app = app
        self.drain_seconds = settings.drain_seconds
        self.linger_seconds = settings.linger_seconds
        self.engine_failed = False

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Bind, then say where; the model is still loading."""
        await super().startup(sockets)
        logger.info("listening on http://%s:%d, API page at /docs", *self.address)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port that were bound; the port is of use where 0 was asked for."""
        host, port, *_ = self.servers[0].sockets[0].getsockname()
        return host, port

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Signal handler; uvicorn raises the captured signals again unless we forget them."""
        if self.app.admission.draining_since is None:
            logger.info("%s: finishing what is running", signal.Signals(sig).name)
            if sig == signal.SIGINT or self.app.models.status != "ready":
                self.linger_seconds = 0
            self.app.admission.drain()
        else:
            self.drain_seconds = self.linger_seconds = 0

    async def on_tick(self, counter: int) -> bool:
        """Every 0.1 s: whether to stop."""
        if counter % TICKS_PER_SWEEP == 0:
            sweep(self.server_state.connections)
        if self.app.models.status == "failed":
            self.engine_failed = self.app.admission.draining_since is None
            return True
        if self.app.admission.is_drained(self.drain_seconds, self.linger_seconds):
            await self.abort_rest()
            return True
        return await super().on_tick(counter)

    async def abort_rest(self) -> None:
        if not self.app.admission.in_flight:
            return
        logger.warning("aborting %d requests", self.app.admission.in_flight)
        try:
            async with asyncio.timeout(ABORT_SECONDS):
                await self.app.abort_all()
        except (TimeoutError, ServerError):
            logger.exception("aborting failed; their connections will be closed")


def uvicorn_config(app: Served, settings: Settings) -> uvicorn.Config:
    """Only what a request needs: no access log, no proxy headers, no date and server headers."""
    return uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        http=edge_protocol(settings),
        loop="uvloop",
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        timeout_keep_alive=settings.keep_alive_seconds,
        timeout_graceful_shutdown=ABORT_SECONDS,
    )


async def serve(app: Served, settings: Settings) -> int:
    """Serve until told to stop; returns the process' exit status."""
    server = DrainingServer(app, settings)
    await server.serve()
    return ENGINE_FAILED_EXIT if server.engine_failed else 0
