"""A real uvicorn on a free port, in the test's own event loop."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

from app.asgi import create_app
from app.engine.base import Engine
from app.metrics import Metrics
from app.server import DrainingServer
from app.settings import Settings

START_SECONDS = 10


class LiveServer:
    """Where the server listens, and clients for it."""

    def __init__(self, server: DrainingServer) -> None:
        self.server = server
        self.host, self.port = server.address
        self.url = f"http://{self.host}:{self.port}"
        self.client = httpx.AsyncClient(base_url=self.url, timeout=60)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A bare socket, for what no HTTP client would send."""
        return await asyncio.open_connection(self.host, self.port)


def are_adapters_loading(server: DrainingServer) -> bool:
    """After an engine that is ready at once, as the fake is."""
    return server.app.engine.status == "ready" and server.app.models.status == "loading"


@asynccontextmanager
async def running_server(
    settings: Settings, engine: Engine, metrics: Metrics | None = None
) -> AsyncIterator[LiveServer]:
    """Serve until the block ends, then drain."""
    server = DrainingServer(create_app(settings, engine, metrics), settings)
    serving = asyncio.create_task(server._serve())
    async with asyncio.timeout(START_SECONDS):
        while not server.started or are_adapters_loading(server):
            await asyncio.sleep(0)
    live = LiveServer(server)
    try:
        async with live.client:
            yield live
    finally:
        server.handle_exit(signal.SIGINT, None)
        await serving
