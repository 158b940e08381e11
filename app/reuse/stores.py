"""Where replies are kept: this process' memory, or a Redis or Valkey server."""

import re

from litestar.stores.base import Store
from litestar.stores.redis import RedisStore
from redis.asyncio import BlockingConnectionPool, Redis

from app.configuration import ConfigurationError
from app.metrics import Metrics
from app.reuse.guard import Circuit, GuardedStore
from app.reuse.memory import MemoryStore
from app.settings import Settings

MEMORY = "memory"
URL = re.compile(r"(redis|rediss|valkey|valkeys|unix)://.+")
CONNECTIONS = 16
"""To a server; requests wait for a free one, within their limit."""


class Stores:
    """All places where replies are kept; one client for those on a server."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        """Connects to nothing yet. Raises ConfigurationError for what is no place."""
        where = settings.reply_cache
        if where not in ("", MEMORY) and not URL.fullmatch(where):
            raise ConfigurationError(
                "reply_cache: expected 'memory', or the URL of a Redis or Valkey server such as "
                "redis://localhost:6379/0."
            )
        self._client = open_client(where) if "://" in where else None
        self._circuit = Circuit(settings.store_seconds, metrics)
        self._opened: list[GuardedStore] = []

    def open(self, name: str, mib: int) -> GuardedStore:
        """The place of this name; a server bounds its memory itself."""
        store = GuardedStore(self._store(name, mib), self._circuit)
        self._opened.append(store)
        return store

    def _store(self, name: str, mib: int) -> Store:
        if self._client is not None:
            return RedisStore(self._client, namespace=f"slipstream:{name}")
        store = MemoryStore(mib * 2**20)
        self._circuit.metrics.store_bytes.labels(name).set_function(lambda: store.num_bytes)
        return store

    async def settle(self) -> None:
        """Wait until what is on its way is kept, or is not."""
        for store in self._opened:
            await store.settle()

    async def close(self) -> None:
        await self.settle()
        if self._client is not None:
            await self._client.aclose(close_connection_pool=True)


def open_client(url: str) -> Redis:
    """A client that connects when it is first used. Raises ConfigurationError.

    Valkey speaks Redis' protocol, so that one client does for both.
    """
    try:
        pool = BlockingConnectionPool.from_url(
            re.sub("^valkey", "redis", url), max_connections=CONNECTIONS, timeout=None
        )
    except ValueError as error:
        raise ConfigurationError(f"reply_cache: {error}.") from error
    return Redis(connection_pool=pool)
