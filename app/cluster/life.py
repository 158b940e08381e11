"""The application's life without a server: started, loaded, stopped. Knows no Ray."""

import asyncio

from app.asgi import Application
from app.errors import EngineDead

POLL_SECONDS = 0.1


class Life:
    """Litestar's lifespan in a task of its own, for it has to end in the task that began it."""

    def __init__(self, app: Application) -> None:
        self._app = app
        self._ending = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """Wait until the model is loaded. Raises EngineDead."""
        self._task = asyncio.create_task(self._live())
        while self._app.models.status == "loading":  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(POLL_SECONDS)
        self.check()

    def check(self) -> None:
        """Raises EngineDead."""
        if self._app.models.status == "failed":
            raise EngineDead("The engine has died.")

    async def end(self) -> None:
        """Stop the engine."""
        self._ending.set()
        if self._task is not None:
            await self._task

    async def _live(self) -> None:
        async with self._app.litestar.lifespan():
            await self._ending.wait()
