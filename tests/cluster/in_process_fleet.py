"""Replicas of the application on fake engines, in the test's own event loop; they can be killed."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager

from litestar.types import Message

from app.asgi import Application, create_app
from app.cluster.affinity import ranked
from app.cluster.exchange import Request
from app.cluster.life import Life
from app.cluster.reply import replies
from app.engine.base import Status
from app.errors import CapacityError
from app.settings import Settings
from tests.fake_engine import FakeEngine


class InProcessReplica:
    def __init__(self, settings: Settings) -> None:
        self.engine = FakeEngine()
        self.app: Application = create_app(settings, self.engine)
        self.life = Life(self.app)
        self.death = asyncio.Event()
        self.in_flight = 0
        self.requests: list[Request] = []


class InProcessFleet:
    """A `fleet.Fleet` whose replicas die when a test says so."""

    def __init__(self, replicas: dict[str, InProcessReplica], limit: int) -> None:
        self.replicas = replicas
        self.status: Status = "ready"
        self.num_ready = len(replicas)
        self.limit = limit
        self.refreshed = asyncio.Event()

    def kill(self, name: str) -> InProcessReplica:
        replica = self.replicas.pop(name)
        replica.death.set()
        return replica

    async def refresh(self) -> None:
        self.num_ready = len(self.replicas)
        self.refreshed.set()

    async def ask(self, request: Request, key: str) -> AsyncGenerator[list[Message], None]:
        while not self.replicas:
            await asyncio.Event().wait()
        in_flight = {name: replica.in_flight for name, replica in self.replicas.items()}
        name = ranked(key, in_flight, self.limit)[0]
        replica = self.replicas[name]
        replica.requests.append(request)
        replica.in_flight += 1
        try:
            async with aclosing(replies(replica.app, request, name)) as batches:
                while batch := await unless_dead(replica, batches):
                    yield batch
        finally:
            replica.in_flight -= 1

    async def ask_all(self, request: Request) -> list[list[Message]]:
        return [
            [message async for batch in replies(replica.app, request, name) for message in batch]
            for name, replica in self.replicas.items()
        ]


async def unless_dead(
    replica: InProcessReplica, batches: AsyncGenerator[list[Message], None]
) -> list[Message] | None:
    """The next batch, None after the last. Raises CapacityError."""
    following = asyncio.ensure_future(anext(batches, None))
    death = asyncio.ensure_future(replica.death.wait())
    try:
        await asyncio.wait([following, death], return_when=asyncio.FIRST_COMPLETED)
        if death.done():
            raise CapacityError("The replica has failed.", code="replica_failed")
        return following.result()
    finally:
        death.cancel()
        following.cancel()
        await asyncio.wait([following, death])


@asynccontextmanager
async def running_fleet(settings: Settings, *names: str) -> AsyncIterator[InProcessFleet]:
    """Replicas whose models are loaded."""
    replicas = {name: InProcessReplica(settings) for name in names}
    lives = [replica.life for replica in replicas.values()]
    for life in lives:
        await life.begin()
    try:
        yield InProcessFleet(replicas, settings.replica_in_flight)
    finally:
        for life in lives:
            await life.end()
