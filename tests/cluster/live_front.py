"""A front on a real uvicorn, before replicas in the test's own event loop."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import httpx

from app.asgi import Application
from app.cluster.front import Front
from app.server import DrainingServer
from app.settings import Settings
from tests.cluster.in_process_fleet import InProcessFleet, InProcessReplica, running_fleet
from tests.fake_engine import Script
from tests.sse_client import events

START_SECONDS = 10
WAIT_SECONDS = 5
CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "a"}]}
STREAM = {**CHAT, "stream": True}


class LiveFront:
    def __init__(self, server: DrainingServer, fleet: InProcessFleet) -> None:
        self.server = server
        self.fleet = fleet
        self.host, self.port = server.address
        self.client = httpx.AsyncClient(base_url=f"http://{self.host}:{self.port}", timeout=30)

    def of(self, reply: httpx.Response) -> InProcessReplica:
        """The replica that gave this reply."""
        return self.fleet.replicas[reply.headers["x-replica"]]


@asynccontextmanager
async def running_front(settings: Settings, *names: str) -> AsyncIterator[LiveFront]:
    """Serve from replicas of these names until the block ends, then drain."""
    async with running_fleet(settings, *names) as fleet:
        server = DrainingServer(cast(Application, Front(settings, fleet)), settings)
        serving = asyncio.create_task(server._serve())
        async with asyncio.timeout(START_SECONDS):
            while not server.started:
                await asyncio.sleep(0.01)
        live = LiveFront(server, fleet)
        try:
            async with live.client:
                yield live
        finally:
            server.handle_exit(signal.SIGINT, None)
            await serving


def pause_all(front: LiveFront) -> asyncio.Event:
    """Every stream stops after its first piece until the event."""
    pause = asyncio.Event()
    for replica in front.fleet.replicas.values():
        replica.engine.enqueue(*(Script(pause=pause) for _ in range(20)))
    return pause


async def finished(lines: AsyncIterator[str]) -> list[Any]:
    return events("".join([f"{line}\n\n" async for line in lines if line]))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_SECONDS):
        while not condition():
            await asyncio.sleep(0.01)
