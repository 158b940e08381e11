"""Adapters by name: loaded, swapped and unloaded while requests run, and remembered.

What should be served is what the settings name, the watched folder holds, and the journal adds to
them or takes away; `reconcile` brings what is served to that, whoever changed it.
"""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager

import msgspec

from app.adapters.files import AdapterFiles, Stamp
from app.adapters.journal import Entries, Entry, Journal
from app.adapters.loaded import LoadedAdapters, Served
from app.adapters.snapshots import Snapshot, SnapshotStore
from app.adapters.source import Source, check_name
from app.engine.base import Adapter, Engine
from app.errors import AdapterConflict, AdapterNotFound, AdapterUnusable, ServerError
from app.folders import state_folder
from app.settings import Settings

logger = logging.getLogger(__name__)


class AdapterRegistry:
    """Every adapter that requests can name; its verbs raise errors for the client who asked."""

    def __init__(self, settings: Settings, engine: Engine) -> None:
        folder = state_folder(settings.state_dir) / "adapters"
        self.files = AdapterFiles(settings)
        self.journal = Journal(folder / settings.served_name.replace("/", "_") / "journal.json")
        self.failures: dict[str, str] = {}
        """Why a name that should be served is not, or not in its newest version."""

        self._given = {name: Source("setting", path) for name, path in settings.adapters.items()}
        self._reserved = frozenset({settings.served_name, *settings.model_aliases})
        self._snapshots = SnapshotStore(folder / "snapshots")
        self._stamps: dict[str, tuple[Source, Stamp]] = {}
        self._loaded = LoadedAdapters(
            engine, self._snapshots, settings.max_pinned_loras, settings.max_lora_rank
        )

    async def open(self) -> None:
        """Load what the settings name, which must succeed, then all the rest."""
        await asyncio.to_thread(self._snapshots.open)
        async with self._loaded.changing:
            for name, source in self._given.items():
                await self._serve(name, source, pin=False)
        await self.reconcile()
        self._loaded.log_level = logging.INFO

    async def close(self) -> None:
        """Let go of the copies, once the engine has stopped."""
        await self._loaded.close()
        await asyncio.to_thread(self._snapshots.close)

    def __iter__(self) -> Iterator[Served]:
        return iter(self._loaded.served.values())

    def __contains__(self, name: str) -> bool:
        return name in self._loaded.served

    def __getitem__(self, name: str) -> Served:
        """Raises AdapterNotFound."""
        return self._loaded[name]

    def hold(self, name: str) -> AbstractContextManager[Adapter]:
        """The version that a name means now, kept for as long as it is used.

        Raises AdapterNotFound.
        """
        return self._loaded.hold(name)

    async def load(self, name: str, source: Source | None, pin: bool | None) -> Served:
        """Serve a name from a source, anew if its files have changed, and remember that.

        Without a source, from where it came last, else from the folder of its name. Raises
        InvalidRequest, AdapterNotFound, AdapterConflict, AdapterUnusable and HubUnreachable.
        """
        source = self._source(name, source)
        # Downloads take long: done before anybody else has to wait.
        source = await asyncio.to_thread(self.files.settle, source)
        async with self._loaded.changing:
            known = self._loaded.served.get(name)
            pin = pin if pin is not None else bool(known and known.wants_pin)
            if pin:
                self._loaded.check_pins(name)
            served = await self._serve(name, source, pin)
            await self._remember(name, source, pin)
        return served

    def _source(self, name: str, source: Source | None) -> Source:
        check_name(name, "name")
        if name in self._reserved:
            raise AdapterConflict(f"{name!r} is the name of the base model.", param="name")
        if name in self._given and source not in (None, self._given[name]):
            raise AdapterConflict(f"{name!r} is set by LLM_ADAPTERS.", param="name")
        if source is not None:
            return source
        return self[name].source if name in self else Source("folder", name)

    async def unload(self, name: str) -> None:
        """Serve a name no more; its running requests go on.

        Raises AdapterNotFound, and AdapterConflict for what the settings name.
        """
        async with self._loaded.changing:
            if name in self._given:
                raise AdapterConflict(f"{name!r} is set by LLM_ADAPTERS.", param="name")
            self._loaded.retire(name)
            self._stamps.pop(name, None)
            has_folder = name in await asyncio.to_thread(self.files.root.names)
            await asyncio.to_thread(self.journal.write, name, Entry(unloaded=has_folder))

    async def reconcile(self) -> None:
        """Bring what is served to what should be; a failure is logged and concerns one name."""
        async with self._loaded.changing:
            try:
                wanted = await asyncio.to_thread(self._wanted)
            except (OSError, msgspec.DecodeError):
                logger.exception("the journal of adapters cannot be read; nothing is changed")
                return
            for name in self._loaded.served.keys() - wanted.keys():
                self._forget(name)
            self.failures = {n: why for n, why in self.failures.items() if n in wanted}
            for name, entry in wanted.items():
                await self._follow(name, entry)

    def _wanted(self) -> Entries:
        """What should be served: the journal goes over the folder, the settings over both."""
        names = [name for name in self.files.root.names() if name not in self._reserved]
        wanted = {name: Entry(Source("folder", name)) for name in names}
        wanted |= {name: Entry(source) for name, source in self._given.items()}
        for name, entry in self.journal.read().items():
            default = wanted.pop(name, Entry()).source
            source = self._given.get(name) or entry.source or default
            if source is not None and not (entry.unloaded and name not in self._given):
                wanted[name] = Entry(source, entry.pinned)
        return wanted

    async def _follow(self, name: str, entry: Entry) -> None:
        """Load a name if it is new, or if its files have changed since they were last tried."""
        assert entry.source is not None
        try:
            stamp = await asyncio.to_thread(self.files.stamp, entry.source)
            if self._stamps.get(name) != (entry.source, stamp):
                self._stamps[name] = (entry.source, stamp)
                await self._serve(name, entry.source, entry.pinned)
        except ServerError as error:
            if isinstance(error, AdapterNotFound) and name in self:
                self._forget(name)
            if self.failures.get(name) != error.message:
                logger.error("adapter %s is not loaded: %s", name, error.message)
            self.failures[name] = error.message

    async def _serve(self, name: str, source: Source, pin: bool) -> Served:
        snapshot = await asyncio.to_thread(self._copy, source)
        served = await self._loaded.serve(name, snapshot, source, pin)
        self.failures.pop(name, None)
        return served

    def _copy(self, source: Source) -> Snapshot:
        """Blocks. Raises what finding the files raises, and AdapterUnusable."""
        folder = self.files.checked(source)
        try:
            return self._snapshots.take(folder)
        except OSError as error:
            raise AdapterUnusable("The adapter's files could not be copied.") from error

    async def _remember(self, name: str, source: Source, pin: bool) -> None:
        """In the journal, what the settings and the folder do not say by themselves."""
        is_plain = source in (Source("folder", name), self._given.get(name))
        entry = Entry(None if is_plain else source, pin)
        await asyncio.to_thread(self.journal.write, name, entry)
        self._stamps[name] = (source, await asyncio.to_thread(self.files.stamp, source))

    def _forget(self, name: str) -> None:
        self._loaded.retire(name)
        self._stamps.pop(name, None)
