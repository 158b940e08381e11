"""One replica: the whole application with an engine of its own, inside an actor of Ray.

Requests come from the front as structs; messages of their replies go back.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path

import msgspec
from litestar.types import Message
from ray import serve

from app.cluster.exchange import Request
from app.cluster.life import Life
from app.cluster.reply import replies
from app.console import Console
from app.engine.environment import prepare_environment
from app.settings import Settings


class Replica:
    """What Ray Serve runs: ready when the model is loaded, ill when the engine died or hangs."""

    async def __init__(self, settings: Settings) -> None:  # type: ignore[misc]  # Serve awaits it
        """Load the model. Raises EngineDead, upon which Serve tries again."""
        context = serve.get_replica_context()
        self.name = context.replica_tag
        self._console = Console(own_logs(settings, context.rank.rank)).__enter__()
        prepare_environment(settings)
        # Not before: importing vLLM reads the environment.
        from app.asgi import create_app
        from app.engine.vllm import engines
        from app.metrics import Metrics
        from app.supervision import SupervisedEngine
        from app.tools.dialects import MARKS

        metrics, make = Metrics(), engines(settings, MARKS)
        # Serve is quicker to give requests to another replica than this one to be well again.
        once = msgspec.structs.replace(settings, max_engine_failures=0)
        self.app = create_app(settings, SupervisedEngine(make, once, metrics), metrics)
        self._life = Life(self.app)
        await self._life.begin()

    async def check_health(self) -> None:
        """Asked by Serve, which replaces a replica after three failures. Raises EngineDead."""
        self._life.check()

    async def answer(self, request: Request) -> AsyncGenerator[list[Message], None]:
        """The reply's messages. When the front cancels this, the application's work ends too."""
        async with aclosing(replies(self.app, request, self.name)) as batches:
            async for messages in batches:
                yield messages

    async def answer_whole(self, request: Request) -> list[Message]:
        """The reply in one piece, for what every replica is asked at once."""
        return [message async for batch in self.answer(request) for message in batch]

    async def __del__(self) -> None:
        """Called by Serve when the replica is stopped and its requests are done."""
        await self._life.end()


def own_logs(settings: Settings, rank: int) -> Settings:
    """Logs in a folder of the replica's own; one that comes back has its predecessor's rank."""
    if not settings.log_dir:
        return settings
    return msgspec.structs.replace(
        settings, log_dir=str(Path(settings.log_dir) / f"replica-{rank}")
    )
