"""What the engine has loaded: the version behind each name, and versions on their way out.

A request holds the version that its name meant when it came. A new one takes over the name in one
step, and the old one is removed when its last request has ended. Knows nothing of where files
come from.
"""

import asyncio
import itertools
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

from app.adapters.checks import check_adapter
from app.adapters.snapshots import Snapshot, SnapshotStore
from app.adapters.source import Source
from app.engine.base import Adapter, Engine
from app.errors import AdapterConflict, AdapterNotFound, ServerError

logger = logging.getLogger(__name__)

SHORT_HASH = 8


class Version:
    """What the engine has loaded under one number, until nobody uses it any more."""

    def __init__(self, adapter: Adapter, snapshot: Snapshot, rank: int) -> None:
        self.adapter = adapter
        self.snapshot = snapshot
        self.rank = rank
        self.created = int(time.time())
        self.num_requests = 0
        self.is_pinned = False
        self.is_retired = False


class Served:
    """A name, and the version that new requests for it get."""

    def __init__(self, name: str, version: Version, source: Source, wants_pin: bool) -> None:
        self.name = name
        self.version = version
        self.source = source
        self.wants_pin = wants_pin


class LoadedAdapters:
    """Changed under `changing`, by whoever holds it; read and held at any time."""

    def __init__(
        self, engine: Engine, snapshots: SnapshotStore, max_pinned: int, max_rank: int
    ) -> None:
        self.served: dict[str, Served] = {}
        self.changing = asyncio.Lock()
        self.log_level = logging.DEBUG
        """Of what is loaded and retired; worth a line each once the start is over."""

        self._engine = engine
        self._snapshots = snapshots
        self._max_pinned = max_pinned
        self._max_rank = max_rank
        self._versions: list[Version] = []
        self._numbers = itertools.count(1)
        self._removals: set[asyncio.Task[None]] = set()

    def __getitem__(self, name: str) -> Served:
        """Raises AdapterNotFound."""
        if name not in self.served:
            raise AdapterNotFound(f"No adapter {name[:100]!r} is loaded.", param="name")
        return self.served[name]

    @contextmanager
    def hold(self, name: str) -> Iterator[Adapter]:
        """Keep the version that a name means now. Raises AdapterNotFound."""
        version = self[name].version
        version.num_requests += 1
        try:
            yield version.adapter
        finally:
            version.num_requests -= 1
            self._remove_if_unused(version)

    async def serve(self, name: str, snapshot: Snapshot, source: Source, pin: bool) -> Served:
        """Let a name mean a copy, which is ours from now on; the same one is not loaded twice.

        Raises AdapterConflict, AdapterUnusable and EngineDead; then nothing has changed.
        """
        known = self.served.get(name)
        if known and known.version.snapshot == snapshot and pin >= known.wants_pin:
            await asyncio.to_thread(self._snapshots.drop, snapshot)
            known.source, known.wants_pin = source, pin
        else:
            version = await self._load(name, snapshot)
            self.served[name] = Served(name, version, source, pin)
            logger.log(self.log_level, "adapter %s is served", version.adapter.name)
            if known:
                self._retire(known.version)
        await self._pin()
        return self.served[name]

    async def _load(self, name: str, snapshot: Snapshot) -> Version:
        number = next(self._numbers)
        adapter = Adapter(f"{name}@{snapshot.digest[:SHORT_HASH]}", number, str(snapshot.path))
        try:
            rank = await asyncio.to_thread(
                check_adapter, snapshot.path, self._engine.layers, self._max_rank
            )
            await self._engine.add_adapter(adapter)
        except BaseException:
            await asyncio.to_thread(self._snapshots.drop, snapshot)
            raise
        version = Version(adapter, snapshot, rank)
        self._versions.append(version)
        return version

    def check_pins(self, name: str) -> None:
        """Whether a name may be pinned. Raises AdapterConflict."""
        others = sum(each.wants_pin for each in self.served.values() if each.name != name)
        if others >= self._max_pinned:
            raise AdapterConflict(
                f"{others} other adapters are pinned, and {self._max_pinned} can be "
                "(LLM_MAX_PINNED_LORAS).",
                param="pinned",
            )

    async def _pin(self) -> None:
        """Pin what wants it while there is a place: an old version may still have it.

        With more pins than places for them the engine could not run other adapters, and would end.
        """
        for served in self.served.values():
            num_pinned = sum(version.is_pinned for version in self._versions)
            waits = served.wants_pin and not served.version.is_pinned
            if waits and num_pinned < self._max_pinned:
                await self._pin_one(served)

    async def _pin_one(self, served: Served) -> None:
        """A failure concerns this name alone, and is not tried again."""
        adapter = served.version.adapter
        try:
            await self._engine.add_adapter(adapter)  # vLLM drops what has long not been used
            await self._engine.pin_adapter(adapter)
        except ServerError as error:
            served.wants_pin = False
            logger.error("pinning %s failed: %s", adapter.name, error.message)
        else:
            served.version.is_pinned = True

    def retire(self, name: str) -> None:
        """Give the name to no new request. Raises AdapterNotFound."""
        version = self[name].version
        del self.served[name]
        logger.log(self.log_level, "adapter %s is retired", version.adapter.name)
        self._retire(version)

    def _retire(self, version: Version) -> None:
        version.is_retired = True
        self._remove_if_unused(version)

    def _remove_if_unused(self, version: Version) -> None:
        if not version.is_retired or version.num_requests:
            return
        removal = asyncio.create_task(self._remove(version))
        self._removals.add(removal)
        removal.add_done_callback(self._removals.discard)

    async def _remove(self, version: Version) -> None:
        """Free the engine's memory and the copy."""
        async with self.changing:
            self._versions.remove(version)
            try:
                await self._engine.remove_adapter(version.adapter)
                await self._pin()
                await asyncio.to_thread(self._snapshots.drop, version.snapshot)
            except (ServerError, OSError) as error:
                logger.error("removing %s failed: %s", version.adapter.name, error)

    async def close(self) -> None:
        """Stop removing; the engine is gone by now, and all it had loaded with it."""
        for removal in self._removals:
            removal.cancel()
        await asyncio.gather(*self._removals, return_exceptions=True)
